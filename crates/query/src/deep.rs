//! Work that recurses as deep as a statement nests: on a thread whose stack is made for it.
//!
//! Must not: read rows; they are read by the tasks of the runtime. Invariant: what `sql::depth` lets through
//! fits in the stack, in a debug build too.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use futures::Future;
use futures::executor::block_on;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use alluvium_stdx::spawn::deep_thread;

use crate::Error;

/// DataFusion's planner takes up to 130 KiB of stack for each level of a statement in a debug build. Pages
/// that no statement reaches are never made.
const STACK_BYTES: usize = 128 * 1024 * 1024;

/// Plans on a deep stack. Planning waits for nothing but the processor: when nobody awaits it any more it
/// still goes on to its end, and what it holds counts until then.
pub(crate) async fn deep<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>>,
{
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || {
        // Operators start tasks when they are executed.
        let _entered = runtime.enter();
        // An error means that the caller has gone.
        drop(sender.send(block_on(work())));
    };
    let failed = |source| Error::Setup { source: Arc::new(source) };
    deep_thread("query-plan", STACK_BYTES, run)
        .map_err(|source| failed(DataFusionError::IoError(source)))?;
    // A thread that ends without an answer has panicked, and said why.
    let died = |_| DataFusionError::Internal("planning ended without an answer".to_owned());
    receiver.await.map_err(|error| Error::Internal { source: Arc::new(died(error)) })?
}
