//! Messages above the limit, as errors of ours.
//!
//! The transport refuses them before any call of ours sees them, with a status that names no reason. It must
//! not touch a status that has one. Invariant: a client learns of this limit as of every other.

use std::convert::Infallible;
use std::task::{Context, Poll};

use alluvium_types::ErrorKind;
use futures::FutureExt;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::failures::status;
use crate::limits::REQUEST_BYTES_MAX;

/// A service whose bare refusals of large messages become statuses with details.
#[derive(Debug, Clone)]
pub(crate) struct Oversize<S> {
    inner: S,
}

impl<S> Oversize<S> {
    pub(crate) fn of(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: NamedService> NamedService for Oversize<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Oversize<S>
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
        self.inner.call(request).map(|answer| answer.map(explained)).boxed()
    }
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
}
