//! What is in the bucket, what was ever put there, and the one object that is damaged.
//!
//! Must not know a protocol. Invariant: the bytes that a key was first put with are kept for good, so that whoever puts
//! others there is found, and a damaged object can be put back as it was.

use std::collections::BTreeMap;
use std::ops::Range;

use alluvium_stdx::Prng;
use bytes::Bytes;

/// How many of the objects that were read last are chosen from: what nobody reads shows no damage.
const RECENT: usize = 6;
/// How often an object must have been read to be one that is used: by who wrote it, and by who checks it.
const READS_MIN: u64 = 2;
/// What the names of data files end with.
const DATA_FILE: &str = ".parquet";

/// An object.
#[derive(Debug, Clone)]
struct Stored {
    bytes: Bytes,
    version: u64,
    reads: u64,
    /// When it was read last, as the number of that read.
    read_last: u64,
}

/// What a damaged object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Deleted,
    Truncated { to: usize },
    Flipped { at: usize, mask: u8 },
}

/// An object that was damaged behind the product's back.
#[derive(Debug, Clone)]
struct Damaged {
    key: String,
    whole: Bytes,
    /// Reads that the damage could be seen in.
    met: u64,
    /// Whether somebody deleted the object meanwhile, so that it is not to be put back.
    is_given_up: bool,
}

/// Whether a put was told that the object must be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    New,
    Nothing,
}

/// What an object is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) size: u64,
    pub(super) version: u64,
}

/// How much is and was in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) objects: u64,
    pub(super) puts: u64,
    pub(super) repeats: u64,
    pub(super) deletes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Objects {
    stored: BTreeMap<String, Stored>,
    first: BTreeMap<String, Bytes>,
    damaged: Option<Damaged>,
    contradictions: Vec<String>,
    versions: u64,
    reads: u64,
    repeats: u64,
    deletes: u64,
}

impl Objects {
    /// Puts an object. Returns its version, or nothing when it had to be new and is not.
    pub(super) fn put(&mut self, key: &str, bytes: Bytes, condition: Condition) -> Option<u64> {
        let length = bytes.len();
        match self.first.get(key) {
            Some(known) if *known == bytes => self.repeats += 1,
            Some(known) => self.contradictions.push(format!(
                "{key} was first put with {} bytes, and later with other ones: {length} bytes",
                known.len()
            )),
            None => {}
        }
        if condition == Condition::Nothing {
            self.contradictions.push(format!("{key} was put, and did not have to be new"));
        }
        self.first.entry(key.to_owned()).or_insert_with(|| bytes.clone());
        if condition == Condition::New && self.stored.contains_key(key) {
            return None;
        }
        self.versions += 1;
        let version = self.versions;
        let stored = Stored { bytes, version, reads: 0, read_last: self.reads };
        self.stored.insert(key.to_owned(), stored);
        Some(version)
    }

    /// Returns what an object is like.
    pub(super) fn head(&mut self, key: &str) -> Option<Facts> {
        let found = self.stored.get(key);
        let facts = found.map(|one| Facts { size: size(&one.bytes), version: one.version });
        if let Some(damaged) = self.damaged.as_mut().filter(|damaged| damaged.key == key) {
            // Who asks for the size learns of damage that changed it.
            damaged.met += u64::from(facts.map(|facts| facts.size) != Some(size(&damaged.whole)));
        }
        facts
    }

    /// Returns a part of an object; nothing when it is not there, or has no such part.
    pub(super) fn read(&mut self, key: &str, range: Range<u64>) -> Option<Bytes> {
        self.reads += 1;
        let stored = self.stored.get_mut(key)?;
        stored.reads += 1;
        stored.read_last = self.reads;
        let (from, to) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        let is_there = from <= to && to <= stored.bytes.len();
        let part = is_there.then(|| stored.bytes.slice(from..to))?;
        if let Some(damaged) = self.damaged.as_mut().filter(|damaged| damaged.key == key) {
            let is_met = damaged.whole.get(from..to) != Some(&part[..]);
            damaged.met += u64::from(is_met);
        }
        Some(part)
    }

    /// Deletes an object, as its owner may.
    pub(super) fn delete(&mut self, key: &str) {
        self.deletes += u64::from(self.stored.remove(key).is_some());
        if let Some(damaged) = self.damaged.as_mut().filter(|damaged| damaged.key == key) {
            damaged.is_given_up = true;
        }
    }

    /// Damages one of the data files that were read last, and says which and how; nothing when there is none, or one is
    /// damaged already.
    pub(super) fn damage(&mut self, prng: &mut Prng) -> Option<String> {
        if self.damaged.is_some() {
            return None;
        }
        let is_used = |(key, one): &(&String, &Stored)| {
            key.ends_with(DATA_FILE) && one.reads >= READS_MIN && !one.bytes.is_empty()
        };
        let mut used: Vec<(&String, &Stored)> = self.stored.iter().filter(is_used).collect();
        used.sort_unstable_by_key(|(_, one)| std::cmp::Reverse(one.read_last));
        used.truncate(RECENT);
        let key = prng.pick(&used).map(|(key, _)| (*key).clone())?;
        let stored = self.stored.get_mut(&key)?;
        let whole = stored.bytes.clone();
        let length = whole.len();
        let at = usize::try_from(prng.below(size(&whole))).ok()?;
        let (harm, what) = match prng.below(3) {
            0 => (Harm::Deleted, "deleted".to_owned()),
            1 => (Harm::Truncated { to: at }, format!("cut to {at} of {length} bytes")),
            _ => {
                let mask = 1_u8 << prng.below(8);
                let what = format!("changed by {mask:#04x} in byte {at} of {length}");
                (Harm::Flipped { at, mask }, what)
            }
        };
        match harmed(&whole, harm) {
            Some(bytes) => stored.bytes = bytes,
            None => drop(self.stored.remove(&key)),
        }
        let detail = format!("{key} was {what}");
        self.damaged = Some(Damaged { key, whole, met: 0, is_given_up: false });
        Some(detail)
    }

    /// Returns how many reads met the damage that is in place.
    pub(super) fn met(&self) -> u64 {
        self.damaged.as_ref().map_or(0, |damaged| damaged.met)
    }

    /// Puts the damaged object back as it was, and says so.
    pub(super) fn mend(&mut self) -> String {
        let Some(Damaged { key, whole, is_given_up, .. }) = self.damaged.take() else {
            return "no object was damaged".to_owned();
        };
        let found = self.stored.get(&key).map(|one| one.bytes.clone());
        let is_whole = found.as_ref() == Some(&whole);
        match (is_given_up, is_whole) {
            (true, false) => format!("{key} was deleted by its owner meanwhile"),
            (_, true) => format!("{key} was put again by its owner meanwhile"),
            (false, false) => {
                self.versions += 1;
                let (version, read_last) = (self.versions, self.reads);
                let stored = Stored { bytes: whole, version, reads: READS_MIN, read_last };
                self.stored.insert(key.clone(), stored);
                format!("{key} is there as it was")
            }
        }
    }

    /// Returns what is against the promise that an object is written once.
    pub(super) fn contradictions(&self) -> &[String] {
        &self.contradictions
    }

    /// Returns how much is and was there.
    pub(super) fn totals(&self) -> Totals {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Totals {
            objects: count(self.stored.len()),
            puts: count(self.first.len()),
            repeats: self.repeats,
            deletes: self.deletes,
        }
    }
}

fn size(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Returns what is left of an object; nothing when it is gone.
fn harmed(whole: &Bytes, harm: Harm) -> Option<Bytes> {
    match harm {
        Harm::Deleted => None,
        Harm::Truncated { to } => Some(whole.slice(..to)),
        Harm::Flipped { at, mask } => {
            let mut bytes = whole.to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
            Some(bytes.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "data/1.parquet";

    fn whole() -> Bytes {
        Bytes::from_static(b"0123456789")
    }

    fn used() -> Objects {
        let mut objects = Objects::default();
        assert_eq!(objects.put(KEY, whole(), Condition::New), Some(1));
        for _ in 0..READS_MIN {
            assert_eq!(objects.read(KEY, 0..10), Some(whole()));
        }
        objects
    }

    #[test]
    fn an_object_that_must_be_new_is_not_written_over_and_other_bytes_are_told() {
        let mut objects = used();
        assert_eq!(objects.put(KEY, whole(), Condition::New), None);
        assert_eq!(objects.contradictions(), [""; 0]);
        assert_eq!(objects.put(KEY, Bytes::from_static(b"other"), Condition::New), None);
        assert_eq!(objects.read(KEY, 2..4), Some(Bytes::from_static(b"23")));
        assert_eq!(objects.contradictions().len(), 1);
        // The name is never used again for other bytes, not even after the object is gone.
        objects.delete(KEY);
        assert_eq!(objects.put(KEY, Bytes::from_static(b"third"), Condition::New), Some(2));
        assert_eq!(objects.contradictions().len(), 2);
        assert!(objects.put("a", whole(), Condition::Nothing).is_some());
        assert_eq!(objects.contradictions().len(), 3);
        assert_eq!(objects.totals(), Totals { objects: 2, puts: 2, repeats: 1, deletes: 1 });
    }

    #[test]
    fn damage_of_each_kind_is_met_by_who_could_see_it_and_is_put_back() {
        let (mut deleted, mut truncated, mut flipped) = (0, 0, 0);
        for seed in 0..60 {
            let mut objects = used();
            let mut prng = Prng::from_seed(seed);
            let detail = objects.damage(&mut prng).expect("there is one to damage");
            assert_eq!(objects.damage(&mut prng), None, "one at a time");
            assert_eq!(objects.met(), 0);
            let size = objects.head(KEY).map(|facts| facts.size);
            let sees_size = u64::from(size != Some(10));
            assert_eq!(objects.met(), sees_size);
            let read = size.and_then(|size| objects.read(KEY, 0..size));
            assert_eq!(objects.met(), 1, "{detail}");
            match read {
                None => {
                    deleted += 1;
                    assert!(detail.ends_with("was deleted"), "{detail}");
                }
                Some(read) if read.len() < 10 => {
                    truncated += 1;
                    assert_eq!(read, whole().slice(..read.len()));
                    assert!(detail.ends_with(&format!("cut to {} of 10 bytes", read.len())));
                }
                Some(read) => {
                    flipped += 1;
                    let wrong: Vec<usize> = (0..10).filter(|i| read[*i] != whole()[*i]).collect();
                    let [at] = wrong[..] else { panic!("one byte is wrong: {wrong:?}") };
                    assert_eq!((read[at] ^ whole()[at]).count_ones(), 1);
                    assert!(detail.ends_with(&format!("in byte {at} of 10")), "{detail}");
                    let at = u64::try_from(at).expect("small");
                    assert!(objects.read(KEY, 0..at).is_some());
                    assert_eq!(objects.met(), 1, "who reads another part sees nothing");
                }
            }
            assert_eq!(objects.mend(), format!("{KEY} is there as it was"));
            assert_eq!(objects.read(KEY, 0..10), Some(whole()));
            assert_eq!((objects.met(), objects.contradictions().len()), (0, 0));
        }
        assert!(deleted > 9 && truncated > 9 && flipped > 9, "{deleted} {truncated} {flipped}");
    }

    #[test]
    fn what_its_owner_deleted_or_put_again_meanwhile_is_left_alone() {
        let mut objects = used();
        objects.damage(&mut Prng::from_seed(1)).expect("there is one to damage");
        objects.delete(KEY);
        assert_eq!(objects.mend(), format!("{KEY} was deleted by its owner meanwhile"));
        assert_eq!(objects.head(KEY), None);
        let mut objects = used();
        objects.damage(&mut Prng::from_seed(1)).expect("there is one to damage");
        objects.stored.remove(KEY);
        assert!(objects.put(KEY, whole(), Condition::New).is_some());
        assert_eq!(objects.mend(), format!("{KEY} was put again by its owner meanwhile"));
        assert_eq!(objects.mend(), "no object was damaged");
    }

    #[test]
    fn only_a_data_file_that_is_read_is_damaged() {
        let mut objects = Objects::default();
        let mut prng = Prng::from_seed(1);
        objects.put("_marker", whole(), Condition::New);
        objects.put(KEY, whole(), Condition::New);
        (0..9).for_each(|_| drop(objects.read("_marker", 0..10)));
        assert_eq!(objects.damage(&mut prng), None);
        (0..2).for_each(|_| drop(objects.read(KEY, 0..10)));
        assert!(objects.damage(&mut prng).is_some_and(|detail| detail.starts_with(KEY)));
    }
}
