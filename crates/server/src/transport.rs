//! What the transport keeps from calls: that a request was cut off, and why a large message was refused.
//!
//! A client that goes away in the middle of its rows must not look like one that has sent all of them. The
//! library below tells a handler of both in the same way, so the difference is made here. It must not touch a
//! status that names its reason. Invariant: a request ends for its handler only when the client ended it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use alluvium_types::ErrorKind;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::failures::status;
use crate::limits::REQUEST_BYTES_MAX;

/// A service whose requests end as their clients ended them, and whose refusals name a reason.
#[derive(Debug, Clone)]
pub(crate) struct Checked<S> {
    inner: S,
}

impl<S> Checked<S> {
    pub(crate) fn of(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: NamedService> NamedService for Checked<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let request = request.map(|inner| Body::new(Whole { inner }));
        self.inner.call(request).map(|answer| answer.map(explained)).boxed()
    }
}

/// A request's body that ends without an error only when its client ended it.
struct Whole<B> {
    inner: B,
}

impl<B> HttpBody for Whole<B>
where
    B: HttpBody<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(match frame {
            // A handler would be told that this was the end.
            Some(Err(error)) if error.code() == Code::Cancelled => Some(Err(cut_off())),
            None if !self.inner.is_end_stream() => Some(Err(cut_off())),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn cut_off() -> Status {
    status(ErrorKind::Unavailable, "the request was cut off before its end", None)
}

fn explained(answer: Response<Body>) -> Response<Body> {
    match Status::from_header_map(answer.headers()) {
        Some(bare) if bare.code() == Code::OutOfRange && bare.details().is_empty() => {
            let message = format!("a message has more bytes than the limit of {REQUEST_BYTES_MAX}");
            let hint = Some("send rows and keys in several messages".to_owned());
            status(ErrorKind::ResourceExhausted, message, hint).into_http()
        }
        Some(_) | None => answer,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn reason(before: Status) -> Option<String> {
        let after = explained(before.into_http());
        let after = Status::from_header_map(after.headers()).expect("a status");
        after.get_error_details().error_info().map(|info| info.reason.clone())
    }

    #[test]
    fn only_a_bare_refusal_by_size_is_explained() {
        let limit = reason(Status::out_of_range("decoded message length too large"));
        assert_eq!(limit.as_deref(), Some("LIMIT"));
        let ours = reason(status(ErrorKind::OutOfRange, "index 7", None));
        assert_eq!(ours.as_deref(), Some("OUT_OF_RANGE"));
        assert_eq!(reason(Status::internal("damaged")), None);
    }

    /// A body that gives one frame or error, or nothing, and then says whether its client ended it.
    struct Given {
        next: Option<Result<Frame<Bytes>, Status>>,
        is_ended: bool,
    }

    impl HttpBody for Given {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.next.take())
        }

        fn is_end_stream(&self) -> bool {
            self.is_ended
        }
    }

    fn check(next: Option<Result<Frame<Bytes>, Status>>, is_ended: bool, expected: Option<Code>) {
        let mut body = Whole { inner: Given { next, is_ended } };
        let polled =
            Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
        let Poll::Ready(found) = polled else { panic!("it is never pending") };
        assert_eq!(found.and_then(Result::err).map(|status| status.code()), expected);
    }

    #[test]
    fn a_request_that_its_client_did_not_end_is_cut_off() {
        let frame = || Some(Ok(Frame::data(Bytes::from_static(b"rows"))));
        check(frame(), false, None);
        check(None, true, None);
        check(None, false, Some(Code::Unavailable));
        check(Some(Err(Status::cancelled("reset"))), false, Some(Code::Unavailable));
        check(Some(Err(Status::internal("broken"))), false, Some(Code::Internal));
    }
}
