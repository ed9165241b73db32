//! The bucket that all nodes share: a server of S3 in this program, whose objects survive whatever becomes of nodes.
//!
//! It has an end of the network of its own, which no fault of links between nodes touches. Must not repair what a node
//! did: it records. Invariant: an object is there as it was put, but for the one that a fault damaged.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use alluvium_stdx::{Prng, SystemClock, spawn};
use tokio::sync::watch;

mod doors;
mod objects;
mod protocol;
mod trouble;

pub(crate) use trouble::{Absence, Met, Plan};

use crate::error::Error;
use crate::limits;
use crate::wire;
use objects::Objects;
use protocol::Protocol;
use trouble::Trouble;

/// The name of the bucket, both at the server and among the nodes.
pub(crate) const BUCKET: &str = "lake";
/// The last byte of the server's address.
pub(crate) const END: u8 = 101;
/// Where it listens.
pub(crate) const PORT: u16 = 9_000;
const ACCESS_KEY: &str = "AKIAWORLD";
const SECRET_KEY: &str = "the-worlds-own-secret";

/// What is and was in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketReport {
    /// Objects that are there.
    pub objects: u64,
    /// Names that were ever put.
    pub puts: u64,
    /// Puts of a name that had been put before with the same bytes: a retry, or a leader of the past.
    pub repeats: u64,
    /// Objects that were deleted by nodes.
    pub deletes: u64,
    /// Requests that came.
    pub requests: u64,
    /// What was done against the promise that an object is written once: each fails the run.
    pub contradictions: Vec<String>,
}

/// What the server's thread and the world share: each lock is held for one operation on the objects, or one decision.
#[derive(Debug)]
struct State {
    objects: Mutex<Objects>,
    trouble: Mutex<Trouble>,
    /// Grows with each plan: whoever waits without an answer waits for the next one.
    plans: watch::Sender<u64>,
    clock: Arc<SystemClock>,
}

impl State {
    fn new(seed: u64, clock: Arc<SystemClock>) -> Self {
        Self {
            objects: Mutex::default(),
            trouble: Mutex::new(Trouble::new(seed)),
            plans: watch::Sender::default(),
            clock,
        }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    state: Arc<State>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Store {
    /// Serves connections that come to `listener`.
    pub(crate) fn start(
        listener: TcpListener,
        seed: u64,
        clock: &Arc<SystemClock>,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("make a runtime for the store"))?;
        let state = Arc::new(State::new(seed, Arc::clone(clock)));
        let (stop, stopped) = watch::channel(false);
        let protocol = Protocol::new(Arc::clone(&state));
        let server = doors::serve(listener, (protocol, Arc::clone(&state)), stopped);
        let thread = spawn::thread("store", move || runtime.block_on(server))
            .map_err(Error::io("start a thread"))?;
        Ok(Self { state, stop, thread: Some(thread) })
    }

    /// Returns the variables that say how the bucket is reached.
    pub(crate) fn env() -> Vec<(String, String)> {
        let deadline = format!("{} seconds", limits::STORE_DEADLINE.as_secs());
        let endpoint = format!("http://{}:{PORT}", wire::address(END));
        let pairs = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_TIMEOUT", deadline.as_str()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// Returns the flags that tell a node of the bucket.
    pub(crate) fn words() -> [String; 2] {
        ["--bucket".to_owned(), format!("{BUCKET}=s3://{BUCKET}/here")]
    }

    /// Lets the store do something wrong, or nothing any more.
    pub(crate) fn set(&self, plan: Plan) {
        self.state.trouble().plan = plan;
        self.state.plans.send_modify(|plans| *plans += 1);
    }

    /// Returns what requests met so far.
    pub(crate) fn met(&self) -> Met {
        self.state.trouble().met
    }

    /// Damages an object, and says which and how; nothing when there is none to damage.
    pub(crate) fn damage(&self, prng: &mut Prng) -> Option<String> {
        self.state.objects().damage(prng)
    }

    /// Returns how many requests met the damage that is in place.
    pub(crate) fn damage_met(&self) -> u64 {
        self.state.objects().met()
    }

    /// Puts the damaged object back, and says so.
    pub(crate) fn mend(&self) -> String {
        self.state.objects().mend()
    }

    /// Returns what is and was in the bucket.
    pub(crate) fn report(&self) -> BucketReport {
        let requests = self.met().requests;
        let objects = self.state.objects();
        let totals = objects.totals();
        BucketReport {
            objects: totals.objects,
            puts: totals.puts,
            repeats: totals.repeats,
            deletes: totals.deletes,
            requests,
            contradictions: objects.contradictions().to_vec(),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
