//! The fault store itself: same seed, same faults; none when healed.

use object_store::memory::InMemory;

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("runtime").block_on(future)
}

const EVERYTHING: FaultRates =
    FaultRates { partial_put_one_in: 9, slow_one_in: 5, slow_ms_max: 1, ..FaultRates::BAD_DAY };

fn trace(seed: u64) -> (Vec<String>, FaultCounts) {
    let store = FaultStore::new(Arc::new(InMemory::new()), seed, EVERYTHING);
    let outcomes = block_on(async {
        let mut outcomes = Vec::new();
        for file in 0..100 {
            let key = Path::from(format!("f{file}"));
            let put = store.put(&key, Bytes::from(vec![1; 64]).into()).await;
            let got = match store.get(&key).await {
                Ok(got) => got.bytes().await.map(|bytes| bytes.to_vec()).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let listed =
                store.list(None).filter_map(|m| futures::future::ready(m.ok())).count().await;
            outcomes.push(format!("{:?} {got:?} {listed}", put.map_err(|e| e.to_string())));
        }
        outcomes
    });
    (outcomes, store.counts())
}

#[test]
fn a_seed_replays_its_faults_and_another_seed_has_others() {
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1).0, trace(2).0);
}

#[test]
fn every_kind_of_fault_strikes_in_a_hundred_rounds() {
    let counts = trace(3).1;
    let struck = [
        counts.without_effect,
        counts.lost_replies,
        counts.damaged_reads,
        counts.partial_puts,
        counts.stale_lists,
        counts.slow,
    ];
    assert!(struck.iter().all(|&n| 0 < n), "{counts:?}");
}

#[test]
fn a_lost_reply_took_effect_and_a_lost_request_did_not() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let key = Path::from("k");
    let put_under = |rates| {
        let store = FaultStore::new(Arc::clone(&inner), 1, rates);
        block_on(store.put(&key, Bytes::from_static(b"x").into())).map_err(|e| e.to_string())
    };
    let lost = put_under(FaultRates { lost_request_one_in: 1, ..FaultRates::NONE });
    assert!(lost.is_err_and(|text| text.contains("timed out")));
    let absent = block_on(inner.head(&key));
    assert!(matches!(absent, Err(object_store::Error::NotFound { .. })), "{absent:?}");
    let lost = put_under(FaultRates { lost_reply_one_in: 1, ..FaultRates::NONE });
    assert!(lost.is_err_and(|text| text.contains("timed out")));
    assert_eq!(block_on(inner.head(&key)).expect("it took effect").size, 1);
}
