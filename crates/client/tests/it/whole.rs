//! Requests that end for the scripted server only when the client ended them, as for the real one.
//!
//! The library tells a handler of a request that was cancelled as of one that ended.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// A service whose requests end as their clients ended them.
#[derive(Debug, Clone)]
pub(crate) struct Whole<S>(pub(crate) S);

impl<S: NamedService> NamedService for Whole<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Whole<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request.map(|body| Body::new(Ended(body))))
    }
}

struct Ended(Body);

impl HttpBody for Ended {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let cut_off = || Some(Err(Status::unavailable("the request was cut off")));
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(context)) {
            Some(Err(error)) if error.code() == Code::Cancelled => cut_off(),
            None if !self.0.is_end_stream() => cut_off(),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
