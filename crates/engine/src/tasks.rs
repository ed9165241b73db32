//! The one place that starts tasks and threads: each has a name, an owner, and an end.

use std::sync::{Arc, Mutex, PoisonError};

use alluvium_stdx::Spawner;
use alluvium_stdx::spawn::{self, StandBack};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Starts tasks on the tokio runtime that opened the node, and waits for them at shutdown.
///
/// A task that panics marks the node as failed: a silent half-dead node is worse than a dead one.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    // Shared between whoever spawns and shutdown; held for an insert only, never across an await.
    running: Arc<Mutex<JoinSet<()>>>,
    failed: watch::Sender<Option<&'static str>>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        let (failed, _) = watch::channel(None);
        Self { running: Arc::new(Mutex::new(JoinSet::new())), failed }
    }

    /// Returns the name of a task that panicked, once there is one.
    pub(crate) fn failed(&self) -> Option<&'static str> {
        *self.failed.borrow()
    }

    /// Waits until a task has panicked; returns its name.
    pub(crate) async fn one_failed(&self) -> &'static str {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as `self`, so the wait ends with a name only.
        let name = failed.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        name.expect("the value that was waited for is a name")
    }

    /// Waits until every task has ended.
    pub(crate) async fn join(&self) {
        let mut running = {
            let mut shared = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *shared)
        };
        while running.join_next().await.is_some() {}
    }
}

impl Spawner for Tasks {
    fn task(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let failed = self.failed.clone();
        let watched = async move {
            let outcome = std::panic::AssertUnwindSafe(future).catch_unwind().await;
            if outcome.is_err() {
                tracing::error!(task = name, "a task of the node panicked");
                failed.send_replace(Some(name));
            }
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are let go: the set would keep them for ever.
        while running.try_join_next().is_some() {}
        #[expect(clippy::disallowed_methods, reason = "this module is the seam")]
        running.spawn(watched);
    }
}

impl Tasks {
    /// Runs a future on a thread of its own, behind every other thread of the machine: for work on bytes
    /// that nobody may have to wait for.
    pub(crate) fn background(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let started = spawn::thread(name, move || {
            stand_back(StandBack::Most);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime needs a few file descriptors").block_on(future);
            drop(ended);
        });
        started.expect("a node that cannot start a thread cannot serve");
        let wait = async move {
            // Closed when the thread's work ended, or when it panicked: the handle tells which.
            assert!(end.await.is_err(), "nothing is ever sent");
        };
        self.task(name, wait.boxed());
    }
}

fn stand_back(by: StandBack) {
    if let Err(error) = spawn::stand_back(by) {
        tracing::warn!(%error, ?by, "work runs at normal priority");
    }
}

/// The threads of queries: others than those of consensus and of callers, and behind them, so that no statement,
/// however busy, keeps a write or another caller waiting.
#[derive(Debug)]
pub(crate) struct QueryThreads {
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl QueryThreads {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the system has no thread or file descriptor left.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("query")
            .worker_threads(threads)
            .on_thread_start(|| stand_back(StandBack::Some))
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: whoever drops it may be a task, and what still runs there has no reader.
            runtime.shutdown_background();
        }
    }
}

impl Spawner for QueryThreads {
    fn task(&self, _name: &'static str, future: BoxFuture<'static, ()>) {
        let runtime = self.runtime.as_ref().expect("it is there until it is dropped");
        #[expect(clippy::disallowed_methods, reason = "this module is the seam")]
        // Its reader hears of a panic: the channel between them closes without an end.
        drop(runtime.spawn(future));
    }
}

/// Runs blocking work on the runtime's blocking threads and returns what it returns.
///
/// # Panics
/// When the work panics: its caller cannot go on without its result.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "this module is the seam")]
    let handle = tokio::task::spawn_blocking(work);
    match handle.await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
