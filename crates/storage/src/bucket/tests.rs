//! Buckets under wrong disks, lost replies and failing probes.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::fault_store::{FaultRates, FaultStore};
use crate::layout::data_file_key;
use crate::retry::RetryPolicy;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("runtime").block_on(future)
}

fn identity(bucket: u128) -> BucketIdentity {
    BucketIdentity { cluster: Uuid::from_u128(1), bucket: Uuid::from_u128(bucket) }
}

fn faulty(rates: FaultRates, seed: u64) -> (Bucket, Arc<FaultStore>) {
    let store = Arc::new(FaultStore::new(Arc::new(InMemory::new()), seed, rates));
    let dynamic: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&store);
    (Bucket::over("b", dynamic, BucketKind::PerNode), store)
}

fn key(file: u64) -> Path {
    data_file_key(Uuid::from_u128(9), 1, file, 0)
}

#[test]
fn a_swapped_or_emptied_disk_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = BucketConfig::Local { root: dir.path().join("a") };
    let open = |id, opening| block_on(Bucket::open("b", &config, &id, opening)).map(|_| ());
    let missing = open(identity(2), Opening::Existing);
    assert!(matches!(missing, Err(Error::MarkerMissing { .. })), "{missing:?}");
    open(identity(2), Opening::Claim).expect("first use");
    open(identity(2), Opening::Existing).expect("second use");
    let swapped = open(identity(3), Opening::Claim);
    assert!(matches!(swapped, Err(Error::WrongBucket { .. })), "{swapped:?}");
    open(identity(2), Opening::Existing).expect("the refusal changed nothing");

    let marker = dir.path().join("a/_alluvium/bucket");
    alluvium_stdx::durable::write(&marker, b"ALVM").expect("damage it");
    let damaged = open(identity(2), Opening::Claim);
    assert!(matches!(damaged, Err(Error::MarkerDamaged { .. })), "{damaged:?}");
}

#[test]
fn museum_m27_a_failing_probe_is_never_read_as_absent() {
    for rates in [
        FaultRates { refused_one_in: 1, ..FaultRates::NONE },
        FaultRates { lost_request_one_in: 1, ..FaultRates::NONE },
        FaultRates { lost_reply_one_in: 1, ..FaultRates::NONE },
    ] {
        let (bucket, store) = faulty(rates, 1);
        let get = block_on(bucket.get(&key(1)));
        assert!(matches!(get, Err(Error::Store { operation: Operation::Get, .. })), "{get:?}");
        let head = block_on(bucket.head(&key(1)));
        assert!(matches!(head, Err(Error::Store { operation: Operation::Head, .. })), "{head:?}");
        let opened = block_on(bucket.check_identity(&identity(2), Opening::Claim));
        assert!(matches!(opened, Err(Error::Store { .. })), "{opened:?}");
        store.set_rates(FaultRates::NONE);
        let marker = block_on(bucket.get(&marker_key())).expect("healed");
        assert_eq!(marker, None, "a bucket was claimed on the strength of a failed probe");
    }
}

#[test]
fn a_put_whose_reply_was_lost_succeeds_on_retry_without_a_second_object() {
    let (bucket, store) = faulty(FaultRates { lost_reply_one_in: 1, ..FaultRates::NONE }, 1);
    let first = block_on(bucket.put_new(&key(1), Bytes::from_static(b"rows")));
    assert!(first.as_ref().is_err_and(Error::is_transient), "{first:?}");
    store.set_rates(FaultRates::NONE);
    let second = block_on(bucket.put_new(&key(1), Bytes::from_static(b"rows")));
    assert_eq!(second.expect("healed"), Put::AlreadyIdentical);
}

#[test]
fn through_a_bad_day_no_object_is_lost_replaced_or_torn() {
    let policy = RetryPolicy::new(8, Duration::from_micros(10), Duration::from_micros(50));
    for seed in 0..50 {
        let (bucket, store) =
            faulty(FaultRates { flipped_read_one_in: 0, ..FaultRates::BAD_DAY }, seed);
        let mut prng = alluvium_stdx::Prng::from_seed(seed);
        let mut acknowledged = Vec::new();
        for file in 0..20_u64 {
            let content = Bytes::from(vec![u8::try_from(file).expect("small"); 100]);
            let put =
                policy.run(&mut prng, async || bucket.put_new(&key(file), content.clone()).await);
            match block_on(put) {
                Ok(Put::Created | Put::AlreadyIdentical) => acknowledged.push((file, content)),
                Err(Error::Exhausted { .. } | Error::Length { .. } | Error::Conflict { .. }) => {}
                Err(error) => panic!("seed {seed}: {error:?}"),
            }
        }
        assert!(0 < store.counts().without_effect + store.counts().lost_replies, "no fault struck");
        store.set_rates(FaultRates::NONE);
        for (file, content) in acknowledged {
            let found = block_on(bucket.get(&key(file))).expect("healed");
            assert_eq!(found, Some(content), "seed {seed}, file {file}");
        }
    }
}

#[test]
fn a_partial_object_left_by_a_broken_store_is_a_conflict_not_a_success() {
    let (bucket, store) = faulty(FaultRates { partial_put_one_in: 1, ..FaultRates::NONE }, 4);
    let torn = block_on(bucket.put_new(&key(1), Bytes::from_static(b"whole content")));
    assert!(matches!(torn, Err(Error::Store { .. })), "{torn:?}");
    store.set_rates(FaultRates::NONE);
    let again = block_on(bucket.put_new(&key(1), Bytes::from_static(b"whole content")));
    assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
    assert_eq!(store.counts().partial_puts, 1);
}

#[test]
fn keys_outside_the_grammar_reach_no_store() {
    let (bucket, _store) = faulty(FaultRates::NONE, 1);
    for text in ["a/.hidden", "UPPER", "a b"] {
        let put = block_on(bucket.put_new(&Path::from(text), Bytes::new()));
        assert!(matches!(put, Err(Error::Key { .. })), "{text}: {put:?}");
    }
}
