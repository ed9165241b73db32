//! Verified reads over stores that lie.

use object_store::memory::InMemory;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::bucket::BucketKind;
use crate::fault_store::{FaultRates, FaultStore};
use crate::layout::data_file_key;
use crate::limits::BLOCK_BYTES;

const LEN: usize = 5 * BLOCK_BYTES as usize / 2;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().expect("runtime").block_on(future)
}

fn content(seed: u64) -> Bytes {
    let mut bytes = vec![0; LEN];
    alluvium_stdx::Prng::from_seed(seed).fill(&mut bytes);
    bytes.into()
}

struct Fixture {
    inner: Arc<dyn ObjectStore>,
    store: VerifiedStore,
    key: Path,
    content: Bytes,
}

fn fixture_over(wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Fixture {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (key, content) = (data_file_key(Uuid::from_u128(1), 1, 1, 0), content(1));
    block_on(inner.put(&key, content.clone().into())).expect("put");
    let bucket = Bucket::over("b", wrap(Arc::clone(&inner)), BucketKind::PerNode);
    let registry = Registry::default();
    registry.register(key.clone(), Arc::new(FileDigest::of(&content))).expect("register");
    Fixture { inner, store: VerifiedStore::new(bucket, registry), key, content }
}

fn fixture() -> Fixture {
    fixture_over(|inner| inner)
}

fn our(error: &object_store::Error) -> String {
    Error::find_in(error).map_or_else(|| format!("not ours: {error:?}"), ToString::to_string)
}

const KEY: &str = "data/00000000-0000-0000-0000-000000000001/1/0-0000000000000001.parquet";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn ranges_are_exactly_the_bytes_asked_for(
        asked in proptest::collection::vec((0_usize..LEN, 1_usize..BLOCK_BYTES as usize * 2), 1..6),
    ) {
        let f = fixture();
        let ranges: Vec<Range<u64>> = asked
            .iter()
            .map(|(start, len)| *start as u64..(start + len).min(LEN) as u64)
            .collect();
        let got = block_on(f.store.get_ranges(&f.key, &ranges)).expect("ranges");
        for (range, bytes) in ranges.iter().zip(got) {
            let (from, to) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            prop_assert!(bytes == f.content.slice(from..to));
            let alone = block_on(f.store.get_range(&f.key, range.clone())).expect("range");
            prop_assert!(alone == bytes);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_named_by_its_block_and_other_blocks_still_read(
        at in 0_usize..LEN, bit in 0_u8..8,
    ) {
        let f = fixture();
        let mut damaged = f.content.to_vec();
        damaged[at] ^= 1 << bit;
        block_on(f.inner.put(&f.key, damaged.into())).expect("damage");
        let block = at as u64 / u64::from(BLOCK_BYTES);
        let expected = format!("bucket b: object {KEY}, block {block} is damaged");
        let whole = block_on(f.store.verify_whole(&f.key)).expect_err("damaged");
        prop_assert_eq!(&whole.to_string(), &expected);
        for other in 0..3_u64 {
            let start = other * u64::from(BLOCK_BYTES);
            let read = block_on(f.store.get_range(&f.key, start..start + 1));
            match read {
                Ok(_) => prop_assert_ne!(other, block),
                Err(error) => prop_assert_eq!(our(&error), expected.clone()),
            }
        }
    }
}

#[test]
fn a_whole_read_and_a_probe_answer_from_the_digest() {
    let f = fixture();
    let meta = block_on(f.store.head(&f.key)).expect("head");
    assert_eq!(meta.size, LEN as u64);
    let got = block_on(async { f.store.get(&f.key).await.expect("get").bytes().await });
    assert_eq!(got.expect("verified"), f.content);
    block_on(f.store.verify_whole(&f.key)).expect("whole");
}

#[test]
fn a_key_without_a_digest_is_refused_though_the_object_is_there() {
    let f = fixture();
    let other = data_file_key(Uuid::from_u128(1), 1, 2, 0);
    block_on(f.inner.put(&other, f.content.clone().into())).expect("put");
    let error = block_on(f.store.get_range(&other, 0..1)).expect_err("unregistered");
    assert!(our(&error).ends_with("is not registered for verified reads"), "{error:?}");
}

#[test]
fn a_missing_and_a_cut_file_are_told_apart() {
    let f = fixture();
    block_on(f.inner.put(&f.key, f.content.slice(..10).into())).expect("cut");
    for read in [0..1, LEN as u64 - 1..LEN as u64] {
        let error = block_on(f.store.get_range(&f.key, read)).expect_err("cut");
        let expected = format!("bucket b: object {KEY} has 10 bytes, expected {LEN}");
        assert_eq!(our(&error), expected);
    }
    block_on(f.inner.delete(&f.key)).expect("delete");
    let error = block_on(f.store.get_range(&f.key, 0..1)).expect_err("missing");
    assert_eq!(our(&error), format!("bucket b: object {KEY} is missing"));
    let whole = block_on(f.store.verify_whole(&f.key));
    assert!(matches!(whole, Err(Error::Missing { .. })), "{whole:?}");
}

#[test]
fn a_file_that_grew_is_found_by_the_whole_check() {
    let f = fixture();
    let longer = [f.content.as_ref(), b"x"].concat();
    block_on(f.inner.put(&f.key, longer.into())).expect("grow");
    let whole = block_on(f.store.verify_whole(&f.key));
    assert!(matches!(whole, Err(Error::Length { .. })), "{whole:?}");
}

#[test]
fn under_random_faults_a_read_is_right_or_an_error_never_wrong() {
    let rates = FaultRates {
        truncated_read_one_in: 4,
        flipped_read_one_in: 4,
        refused_one_in: 10,
        ..FaultRates::NONE
    };
    let (mut right, mut refused) = (0, 0);
    for seed in 0..60 {
        let f = fixture_over(|inner| Arc::new(FaultStore::new(inner, seed, rates)));
        let mut prng = alluvium_stdx::Prng::from_seed(seed);
        for _ in 0..10 {
            let start = prng.below(LEN as u64);
            let end = start + 1 + prng.below(LEN as u64 - start);
            let expected =
                f.content.slice(usize::try_from(start).unwrap()..usize::try_from(end).unwrap());
            match block_on(f.store.get_range(&f.key, start..end)) {
                Ok(bytes) => {
                    assert!(bytes == expected, "seed {seed}: wrong bytes for {start}..{end}");
                    right += 1;
                }
                Err(error) => {
                    assert!(Error::find_in(&error).is_some(), "seed {seed}: {error:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(100 < right && 100 < refused, "{right} right, {refused} refused: faults too rare");
}

#[test]
fn nothing_can_be_written_or_listed_through_a_verified_store() {
    let f = fixture();
    let put = block_on(f.store.put(&f.key, Bytes::new().into())).map(|_| ());
    let delete = block_on(f.store.delete(&f.key));
    let list = block_on(f.store.list_with_delimiter(None)).map(|_| ());
    for outcome in [put, delete, list] {
        let refused = matches!(outcome, Err(object_store::Error::NotImplemented { .. }));
        assert!(refused, "{outcome:?}");
    }
    assert_eq!(block_on(f.inner.head(&f.key)).expect("untouched").size, LEN as u64);
}
