//! The contract suite on every backend: the disk's, memory's, and the simulator's without faults.

use object_store::memory::InMemory;

use super::*;
use crate::durable_local::DurableLocal;
use crate::fault_store::{FaultRates, FaultStore};

fn block_on(future: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().expect("runtime").block_on(future);
}

#[test]
fn museum_m19_the_local_store_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Arc::new(DurableLocal::open(&dir.path().join("root")).expect("open"));
    block_on(run(store, 1, Rounds { races: 1_000, sequential: 1_000 }));
}

#[test]
fn museum_m19_the_memory_store_keeps_the_contract() {
    block_on(run(Arc::new(InMemory::new()), 2, Rounds { races: 1_000, sequential: 1_000 }));
}

#[test]
fn museum_m19_the_fault_store_without_faults_keeps_the_contract() {
    let inner = Arc::new(InMemory::new());
    let store = Arc::new(FaultStore::new(inner, 3, FaultRates::NONE));
    block_on(run(store, 3, Rounds { races: 1_000, sequential: 1_000 }));
}
