//! Connections to the store, which can be cut in the middle, and what is done to each request.
//!
//! Must not know what a request asks for, but whether it puts an object. Invariant: a request is counted as met by what
//! was done to it, after it was done.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::error_handling::HandleError;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{self, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::serve::{IncomingStream, Listener};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::protocol::Protocol;
use super::trouble::{Absence, Plan, Treatment};
use super::{ACCESS_KEY, SECRET_KEY, State};
use crate::limits;

/// Says whether a connection is not taken, and counts it then.
fn hangs_up(state: &State) -> bool {
    let mut trouble = state.trouble();
    let hangs_up = trouble.plan == Plan::Away(Absence::HangsUp);
    trouble.met.unanswered += u64::from(hangs_up);
    hangs_up
}

/// Waits until there is another plan.
async fn until_changed(state: &State) {
    let mut plans = state.plans.subscribe();
    plans.borrow_and_update();
    // The sender is in the state, so that it lives.
    drop(plans.changed().await);
}

/// Where connections come in.
struct Doors {
    listener: TcpListener,
    state: Arc<State>,
}

impl Listener for Doors {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            let (stream, from) = Listener::accept(&mut self.listener).await;
            if !hangs_up(&self.state) {
                return (Line { stream, cutter: Cutter::default() }, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection.
struct Line {
    stream: TcpStream,
    cutter: Cutter,
}

/// Cuts a connection: nothing more is read from it or written to it, and it ends.
#[derive(Debug, Clone, Default)]
struct Cutter(Arc<AtomicBool>);

impl Cutter {
    fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

impl Connected<IncomingStream<'_, Doors>> for Cutter {
    fn connect_info(stream: IncomingStream<'_, Doors>) -> Self {
        stream.io().cutter.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cutter.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cutter.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cutter.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Serves until `stop` says so.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    (protocol, state): (Protocol, Arc<State>),
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut builder = S3ServiceBuilder::new(protocol);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let refuse = async |error: s3s::HttpError| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")).into_response()
    };
    let service = HandleError::<_, _, ()>::new(builder.build(), refuse);
    let layer = middleware::from_fn_with_state(Arc::clone(&state), treat);
    let router = axum::Router::new().fallback_service(service).layer(layer);
    let service = router.into_make_service_with_connect_info::<Cutter>();
    tokio::select! {
        served = axum::serve(Doors { listener, state }, service) => served,
        // Whoever held the other end is gone: so is whoever could ask.
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    }
}

/// Does to one request what was decided about it.
async fn treat(
    extract::State(state): extract::State<Arc<State>>,
    ConnectInfo(line): ConnectInfo<Cutter>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let is_put = request.method() == Method::PUT;
    let treatment = state.trouble().decide(is_put);
    let response = match treatment {
        Treatment::Serve => next.run(request).await,
        Treatment::ServeAfter(later) => {
            tokio::time::sleep(later).await;
            state.trouble().met.delayed += 1;
            next.run(request).await
        }
        Treatment::Refuse(status) => refuse(&state, status, request).await,
        Treatment::ServeAndCut | Treatment::ServeAndHold => {
            let response = next.run(request).await;
            // A put that was refused by its condition took no effect.
            let is_lost = response.status().is_success();
            state.trouble().met.lost += u64::from(is_lost);
            if treatment == Treatment::ServeAndHold {
                tokio::time::sleep(limits::STORE_HOLD).await;
            }
            line.cut();
            response
        }
        Treatment::Cut => {
            state.trouble().met.unanswered += 1;
            line.cut();
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Treatment::Hold => {
            state.trouble().met.unanswered += 1;
            until_changed(&state).await;
            line.cut();
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    };
    Ok(response)
}

/// Answers with an error as S3 writes it, after the whole request was heard.
async fn refuse(state: &State, status: u16, request: Request) -> Response {
    // What is too long or breaks off is not heard to its end.
    drop(axum::body::to_bytes(request.into_body(), limits::STORE_OBJECT_BYTES).await);
    let code = match status {
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "SlowDown",
    };
    state.trouble().met.refused += 1;
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Body::from(text)).into_response()
}
