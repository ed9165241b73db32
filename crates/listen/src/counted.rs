//! Tells a connection's place of its calls.
//!
//! It must not change a call. Invariant: a call counts until its answer is sent whole or given up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use crate::connection::Origin;
use crate::guests::Guest;

/// A service whose open calls keep their connection its place.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
}

impl<S> Counted<S> {
    /// Counts the calls of a service.
    #[must_use]
    pub fn of(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = Status> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let guest = request.extensions().get::<Origin>().map(|origin| Arc::clone(origin.guest()));
        let call = guest.map(OpenCall::begin);
        let answered = self.inner.call(request);
        let held = |answer: Response<B>| {
            answer.map(|inner| Body::new(Held { inner: Body::new(inner), _call: call }))
        };
        answered.map(|answer| answer.map(held)).boxed()
    }
}

/// A call that counts, until dropped.
#[derive(Debug)]
struct OpenCall(Arc<Guest>);

impl OpenCall {
    fn begin(guest: Arc<Guest>) -> Self {
        guest.begin_call();
        Self(guest)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.end_call();
    }
}

/// An answer's body, and the call that it belongs to.
struct Held {
    inner: Body,
    _call: Option<OpenCall>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
