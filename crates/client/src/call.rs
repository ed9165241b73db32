//! Makes a call: tries it on one node after another until it is answered, refused, or its time is over.
//!
//! It must not decide whether to repeat: `verdict` and `retry` do. Invariant: no call lasts longer than its limit and
//! the grace for its answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_proto::v1;
use alluvium_proto::v1::lake_client::LakeClient;
use alluvium_stdx::Prng;
use alluvium_types::{ErrorKind, LogIndex};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, TimeoutExpired};

use crate::Error;
use crate::error::Failure;
use crate::limits::{ASK_LEADER_MAX, FOREVER, GRACE};
use crate::nodes::{Asked, Chosen, Nodes, Prefers};
use crate::options::{Options, Retry};
use crate::retry::{self, Next, Repeat, Standing};
use crate::rows::BoxError;
use crate::session::Sessions;
use crate::verdict::{self, Again, Effect, Speaker, Told, Verdict};

/// What the clones of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) nodes: Nodes,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) options: Options,
    /// The highest index of any answer. Never falls.
    pub(crate) seen: AtomicU64,
    // Held for one draw.
    pub(crate) prng: Mutex<Prng>,
}

/// A call that is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// Its name in the protocol.
    pub(crate) name: &'static str,
    pub(crate) prefers: Prefers,
    pub(crate) repeat: Repeat,
    /// When all tries are over.
    pub(crate) end: Instant,
    /// How long one node may take, if there are others.
    pub(crate) try_limit: Option<Duration>,
    /// An earlier call of the same command left it in doubt.
    pub(crate) in_doubt: bool,
}

/// One try of a call.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    pub(crate) lake: LakeClient<Channel>,
    pub(crate) url: String,
    /// When it is over.
    pub(crate) end: Instant,
    /// When the whole call is over.
    pub(crate) call_end: Instant,
}

/// Why a try has no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A server or the transport says so.
    Status(Box<Status>),
    /// The rows ended in an error; the call was cancelled.
    Rows(BoxError),
    /// The answer is not one.
    Answer(&'static str),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// A call that has no answer.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) failure: Failure,
    pub(crate) verdict: Verdict,
    /// Some try may have taken effect.
    pub(crate) in_doubt: bool,
    pub(crate) tries: u32,
    /// What the source of the rows said, if that ended it.
    pub(crate) rows: Option<BoxError>,
}

impl Ended {
    /// Makes the error of a call that changes nothing, or whose every try left nothing.
    pub(crate) fn into_definite(self) -> Error {
        let Self { failure, verdict, tries, rows, .. } = self;
        let failure = Box::new(failure);
        match (rows, verdict.again) {
            (Some(source), _) => Error::Rows { source },
            (None, Again::No) => Error::Refused { failure },
            (None, Again::OtherNode | Again::Later) => Error::Unavailable { failure, tries },
        }
    }
}

impl Try {
    /// Puts the time that is left on a request.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.end.saturating_duration_since(Instant::now()));
        request
    }

    /// As [`Try::request`], for an answer that may stream until the whole call is over.
    pub(crate) fn streaming_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.call_end.saturating_duration_since(Instant::now()));
        request
    }

    /// Waits for the answer, a little longer than the server may take.
    pub(crate) async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Fault> {
        Ok(until(self.end, answer).await?.into_inner())
    }
}

/// Waits for a part of an answer, at most until `end` and the grace for it.
pub(crate) async fn until<T>(
    end: Instant,
    part: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match timeout_at(end + GRACE, part).await {
        Ok(part) => part,
        Err(_elapsed) => Err(Status::from_error(Box::new(TimeoutExpired(())))),
    }
}

impl Shared {
    /// Returns when a call that begins now is over.
    pub(crate) fn end(&self, limit: Option<Duration>) -> Instant {
        let limit = limit.unwrap_or(self.options.limit).min(FOREVER);
        Instant::now() + limit
    }

    /// Remembers the index of an answer.
    pub(crate) fn saw(&self, index: u64) -> LogIndex {
        self.seen.fetch_max(index, Ordering::Relaxed);
        LogIndex(index)
    }

    /// Tries until there is an answer, or none to be had.
    pub(crate) async fn run<T, F>(
        &self,
        call: &Call,
        attempt: impl Fn(Try) -> F,
    ) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let (mut asked, mut tries, mut in_doubt) = (Asked::default(), 0, call.in_doubt);
        if call.prefers == Prefers::Leader && self.nodes.lacks_leader() {
            self.ask_leader(call.end, true).await;
        }
        loop {
            let chosen = self.nodes.pick(call.prefers, &asked);
            let fault = match attempt(self.a_try(call, &chosen)).await {
                Ok(answer) => {
                    self.nodes.answered(chosen.at);
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            asked.add(chosen.at);
            tries += 1;
            let (told, rows) = self.note(&chosen, fault);
            in_doubt = doubt_after(in_doubt, told.verdict.effect);
            let standing = Standing {
                tries,
                has_untried: self.nodes.has_untried(call.prefers, &asked),
                left: call.end.saturating_duration_since(Instant::now()),
                repeat: call.repeat,
            };
            let verdict = told.verdict;
            let chance = self.prng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
            let next = retry::next(verdict, told.retry_after, standing, chance);
            let Told { kind, message, hint, .. } = told;
            let failure = Failure { kind, message, hint, url: chosen.url };
            match next {
                Next::Stop => return Err(Ended { failure, verdict, in_doubt, tries, rows }),
                Next::Again { wait } => self.pause(call, (tries, wait), &failure).await,
            }
        }
    }

    fn a_try(&self, call: &Call, chosen: &Chosen) -> Try {
        let own = call.try_limit.map(|limit| Instant::now() + limit);
        let end = own.map_or(call.end, |own| own.min(call.end));
        Try { lake: chosen.lake.clone(), url: chosen.url.clone(), end, call_end: call.end }
    }

    /// Reads a fault, and remembers what it says about the nodes.
    fn note(&self, chosen: &Chosen, fault: Fault) -> (Told, Option<BoxError>) {
        let (told, rows) = match fault {
            Fault::Status(status) => (verdict::read(&status), None),
            Fault::Rows(source) => {
                (local(ErrorKind::InvalidArgument, source.to_string()), Some(source))
            }
            Fault::Answer(what) => (local(ErrorKind::Internal, what.to_owned()), None),
        };
        let is_broken =
            matches!(told.speaker, Speaker::Connection | Speaker::Nobody | Speaker::Time);
        if told.verdict.again != Again::No {
            self.nodes.failed(chosen.at, is_broken);
        }
        self.nodes.hinted(told.leader, told.leader_url.as_deref());
        (told, rows)
    }

    async fn pause(&self, call: &Call, (tries, wait): (u32, Duration), failure: &Failure) {
        tracing::debug!(call = call.name, url = failure.url, tries, ?wait, %failure, "trying again");
        if let Some(tell) = &self.options.on_retry {
            tell(&Retry { call: call.name, tries, wait, failure });
        }
        tokio::time::sleep(wait).await;
        if call.prefers == Prefers::Leader && self.nodes.lacks_leader() {
            self.ask_leader(call.end, false).await;
        }
    }

    /// Asks the nodes who they are and who leads. The first answer that settles it is enough if `is_first`; later on
    /// all are waited for, because a leader that lost its followers may still take itself for one.
    async fn ask_leader(&self, end: Instant, is_first: bool) {
        let end = end.min(Instant::now() + ASK_LEADER_MAX);
        let ask = |chosen: Chosen| async move {
            let mut lake = chosen.lake.clone();
            let answer = timeout_at(end, lake.status(v1::StatusRequest {})).await;
            (chosen, answer)
        };
        let mut asked: FuturesUnordered<_> = self.nodes.all(true).into_iter().map(ask).collect();
        while let Some((chosen, answer)) = asked.next().await {
            match answer {
                Ok(Ok(status)) => {
                    let v1::StatusResponse { node_id, leader, term, .. } = status.into_inner();
                    self.nodes.told(chosen.at, node_id, leader, term);
                }
                Ok(Err(status)) => {
                    let told = verdict::read(&status);
                    tracing::debug!(
                        url = chosen.url,
                        message = told.message,
                        "it does not say who leads"
                    );
                    self.nodes.failed(chosen.at, told.speaker != Speaker::Server);
                }
                // Slow is not broken.
                Err(_elapsed) => {}
            }
            if is_first && !self.nodes.lacks_leader() {
                return;
            }
        }
    }
}

/// Returns whether a command is in doubt after a try, given that it was before.
pub(crate) fn doubt_after(before: bool, effect: Effect) -> bool {
    match effect {
        Effect::Unknown => true,
        // This try left nothing; of earlier ones it says nothing.
        Effect::None | Effect::SessionOver => before,
        Effect::Settled => false,
    }
}

/// What this program found by itself, with nothing left behind by the try.
fn local(kind: ErrorKind, message: String) -> Told {
    Told {
        kind,
        code: tonic::Code::Ok,
        speaker: Speaker::Server,
        verdict: Verdict { effect: Effect::None, again: Again::No },
        message,
        hint: None,
        cause: None,
        leader: None,
        leader_url: None,
        retry_after: None,
    }
}
