//! The storage contract: what every store must do before Alluvium may put a data file in it.
//!
//! One suite for every backend, real or simulated. Must not: depend on a listing. Invariant checked here
//! (museum M19): what was acknowledged is there at once, whole, and nothing else ever is.

use std::sync::Arc;

use alluvium_stdx::Prng;
use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use uuid::Uuid;

use crate::bucket::{Bucket, BucketKind, Put};
use crate::error::Error;
use crate::layout::DataFileName;

/// How many rounds of each check: a disk costs more than memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// Rounds in which several writers race for one name.
    pub races: u32,
    /// Rounds in which one writer puts, reads and deletes.
    pub sequential: u32,
}

/// Runs every check against `store`, which must be empty.
///
/// # Panics
/// When the store breaks the contract; the message says how.
pub async fn run(store: Arc<dyn ObjectStore>, seed: u64, rounds: Rounds) {
    let mut checks = Checks {
        bucket: Bucket::over("suite", store, BucketKind::PerNode),
        prng: Prng::from_seed(seed),
        next_file: 0,
    };
    checks.absent_is_told_from_present().await;
    for _ in 0..rounds.sequential {
        checks.acknowledged_is_visible_whole().await;
    }
    for _ in 0..rounds.races {
        checks.racers_have_one_winner().await;
    }
    checks.replaced_is_old_or_new_never_a_mixture().await;
    checks.multipart_shows_nothing_before_it_completes().await;
    checks.copies_and_listings_agree_with_puts().await;
}

struct Checks {
    bucket: Bucket,
    prng: Prng,
    next_file: u64,
}

const RACERS: u64 = 4;

impl Checks {
    fn key(&mut self) -> Path {
        self.next_file += 1;
        let (dataset, file) = (Uuid::from_u128(0x5eed), self.next_file);
        DataFileName { dataset, incarnation: 1, file, generation: 0 }.key()
    }

    fn content(&mut self) -> Bytes {
        let len = usize::try_from(1 + self.prng.below(9_000)).expect("small");
        let mut bytes = vec![0; len];
        self.prng.fill(&mut bytes);
        bytes.into()
    }

    async fn read(&self, key: &Path) -> Option<Bytes> {
        self.bucket.get(key).await.expect("a healthy store answers")
    }

    async fn absent_is_told_from_present(&mut self) {
        let key = self.key();
        assert!(self.read(&key).await.is_none(), "an object that was never put is there");
        assert!(self.bucket.head(&key).await.expect("probe").is_none());
        self.bucket.delete(&key).await.expect("deleting what is not there is no error");
    }

    async fn acknowledged_is_visible_whole(&mut self) {
        let (key, content) = (self.key(), self.content());
        let put = self.bucket.put_new(&key, content.clone()).await.expect("put");
        assert_eq!(put, Put::Created);
        let size = self.bucket.head(&key).await.expect("probe").map(|meta| meta.size);
        assert_eq!(size, Some(content.len() as u64), "acknowledged before visible");
        assert_eq!(self.read(&key).await.as_ref(), Some(&content), "acknowledged but torn");
        self.ranges_are_the_same_bytes(&key, &content).await;

        let again = self.bucket.put_new(&key, content.clone()).await.expect("retry");
        assert_eq!(again, Put::AlreadyIdentical);
        let other = self.bucket.put_new(&key, Bytes::from_static(b"other")).await;
        assert!(matches!(other, Err(Error::Conflict { .. })), "{other:?}");
        assert_eq!(self.read(&key).await, Some(content), "a conflict changed the object");

        self.bucket.delete(&key).await.expect("delete");
        self.bucket.delete(&key).await.expect("delete again");
        assert!(self.read(&key).await.is_none(), "a deleted object is there");
    }

    async fn ranges_are_the_same_bytes(&mut self, key: &Path, content: &Bytes) {
        let len = content.len() as u64;
        let start = self.prng.below(len);
        let end = start + 1 + self.prng.below(len - start);
        let ranges = [start..end, 0..1, len - 1..len];
        let got = self.bucket.store().get_ranges(key, &ranges).await.expect("ranges");
        for (range, bytes) in ranges.iter().zip(&got) {
            let from = usize::try_from(range.start).expect("small");
            let to = usize::try_from(range.end).expect("small");
            assert_eq!(*bytes, content.slice(from..to), "range {range:?}");
        }
    }

    async fn racers_have_one_winner(&mut self) {
        let key = self.key();
        let contents: Vec<Bytes> = (0..RACERS).map(|_| self.content()).collect();
        let racers = contents.iter().map(|content| self.bucket.put_new(&key, content.clone()));
        let outcomes = join_all(racers).await;
        let winners: Vec<usize> = (0..outcomes.len())
            .filter(|&racer| matches!(outcomes[racer], Ok(Put::Created)))
            .collect();
        let lost = outcomes.iter().filter(|o| matches!(o, Err(Error::Conflict { .. }))).count();
        let [winner] = winners.as_slice() else { panic!("{} winners", winners.len()) };
        assert_eq!(lost + 1, contents.len(), "a loser was told something else: {outcomes:?}");
        assert_eq!(self.read(&key).await.as_ref(), Some(&contents[*winner]), "a loser's bytes");
    }

    async fn replaced_is_old_or_new_never_a_mixture(&mut self) {
        let (key, old) = (self.key(), self.content());
        let store = self.bucket.store();
        store.put(&key, old.clone().into()).await.expect("put");
        let versions: Vec<Bytes> = (0..RACERS).map(|_| self.content()).collect();
        let put_all = join_all(versions.iter().map(|v| store.put(&key, v.clone().into())));
        let read_all = join_all((0..RACERS * 4).map(|_| self.read(&key)));
        let (put, seen) = futures::join!(put_all, read_all);
        assert!(put.iter().all(Result::is_ok), "{put:?}");
        for bytes in seen {
            let bytes = bytes.expect("a replaced object is never absent");
            assert!(bytes == old || versions.contains(&bytes), "a torn replace was seen");
        }
    }

    async fn multipart_shows_nothing_before_it_completes(&mut self) {
        let (key, first, second) = (self.key(), self.content(), self.content());
        let store = self.bucket.store();
        let mut aborted = store.put_multipart(&key).await.expect("start");
        aborted.put_part(first.clone().into()).await.expect("part");
        aborted.abort().await.expect("abort");
        let mut upload = store.put_multipart(&key).await.expect("start");
        upload.put_part(first.clone().into()).await.expect("part");
        assert!(self.read(&key).await.is_none(), "an unfinished upload is visible");
        upload.put_part(second.clone().into()).await.expect("part");
        upload.complete().await.expect("complete");
        let expected: Bytes = [first, second].concat().into();
        assert_eq!(self.read(&key).await, Some(expected));
    }

    async fn copies_and_listings_agree_with_puts(&mut self) {
        let (from, to, content) = (self.key(), self.key(), self.content());
        let store = self.bucket.store();
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&from, content.clone().into(), create).await.expect("put");
        store.copy_if_not_exists(&from, &to).await.expect("copy");
        let taken = store.copy_if_not_exists(&from, &to).await;
        let refused = matches!(taken, Err(object_store::Error::AlreadyExists { .. }));
        assert!(refused, "a copy replaced an object: {taken:?}");
        assert_eq!(self.read(&to).await, Some(content));
        let moved = self.key();
        store.rename(&to, &moved).await.expect("rename");
        assert!(self.read(&to).await.is_none(), "a renamed object is still at its old key");
        let listed = futures::TryStreamExt::try_collect::<Vec<_>>(store.list(None)).await;
        let keys: Vec<Path> = listed.expect("list").into_iter().map(|m| m.location).collect();
        assert!(keys.contains(&from) && keys.contains(&moved) && !keys.contains(&to), "{keys:?}");
    }
}

#[cfg(test)]
mod tests;
