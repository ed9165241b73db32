//! Work that blocks on a disk for long, away from the runtime's workers.
//!
//! It must not be used for what takes microseconds. Invariant: the work ends even when nobody waits any more.

use futures::channel::oneshot;

use alluvium_stdx::spawn;

use crate::error::Fault;

/// Runs `work` on a thread of its own and waits for it without blocking this one.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (sender, receiver) = oneshot::channel();
    let tell = move || {
        // Nobody waits any more when the node was shut down meanwhile: the work stands all the same.
        drop(sender.send(work()));
    };
    drop(spawn::thread(name, tell).map_err(|source| Fault::Thread { name, source })?);
    receiver.await.unwrap_or(Err(Fault::ThreadPanicked { name }))
}
