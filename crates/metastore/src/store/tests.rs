//! RocksDB answers as memory does, survives crashes at every step, and never answers from damage.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use alluvium_state_machine::workload::Workload;
use alluvium_state_machine::{BatchEntry, EntryContent, MemoryStore, apply_batch, payload_hash};
use alluvium_stdx::Prng;
use alluvium_stdx::spawn::side_by_side;
use alluvium_types::{Envelope, ErrorKind, NodeId, Response};
use bytes::Bytes;
use tempfile::TempDir;

use super::*;

type Log = Vec<(Envelope, Bytes)>;

/// Small buffers, so that a test sees files of several levels.
fn options() -> OpenOptions {
    OpenOptions { block_cache_bytes: 1024 * 1024, write_buffer_bytes: 64 * 1024 }
}

fn open(root: &Path) -> RocksStore {
    RocksStore::open(root, options()).expect("opens")
}

fn entry_id(index: u64) -> AppliedEntry {
    AppliedEntry { term: 1, leader: NodeId(1), index: LogIndex(index) }
}

fn applied(store: &dyn MetaStore) -> u64 {
    store.raft().applied.map_or(0, |applied| applied.index.0)
}

/// Returns a log of random commands.
fn log(seed: u64, entries: usize) -> Log {
    let store = MemoryStore::new();
    let mut workload = Workload::from_seed(seed);
    let mut log = Vec::new();
    for _ in 0..entries {
        let index = LogIndex(applied(&store) + 1);
        log.push(workload.next(&store, index).expect("reads"));
        let responses = replay(&store, &log, log.len(), 1);
        responses.iter().for_each(|response| workload.answered(response));
    }
    log
}

/// Applies what is missing of a log up to `end`, in batches.
fn replay(store: &dyn MetaStore, log: &Log, end: usize, batch_size: usize) -> Vec<Response> {
    let mut answers = Vec::new();
    loop {
        let done = applied(store);
        let start = usize::try_from(done).expect("small");
        let part = &log[start..end.min(start + batch_size)];
        if part.is_empty() {
            return answers;
        }
        let mut batch = Vec::new();
        for (index, (envelope, body)) in (done + 1..).zip(part) {
            let payload_hash = payload_hash(&envelope.command, body);
            let content = EntryContent::Command { envelope, body, payload_hash };
            batch.push(BatchEntry { id: entry_id(index), content });
        }
        let result = apply_batch(store, &batch).expect("applies");
        store.commit(result.commit).expect("commits");
        answers.extend(result.responses.into_iter().flatten());
    }
}

/// What a power cut would leave: the files as they are at one moment. RocksDB flushes and compacts on threads of its own,
/// so files come and go while others are copied; what was copied meanwhile is no moment's state, and is copied again.
fn copy(from: &Path) -> TempDir {
    loop {
        let before = listing(from);
        let to = tempfile::tempdir().expect("temporary directory");
        let copied = before.iter().try_for_each(|(path, ..)| {
            let target = to.path().join(path.strip_prefix(from).expect("below it"));
            match path.is_dir() {
                true => fs::create_dir(target),
                false => fs::copy(path, target).map(drop),
            }
        });
        let still = before == listing(from);
        match copied {
            Ok(()) if still => return to,
            Err(error) if still => panic!("{error}"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// Each file and directory below a directory, parents first, with its length and when it was changed.
fn listing(root: &Path) -> Vec<(PathBuf, u64, Duration)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("lists") {
            let entry = entry.expect("lists");
            // Gone since it was listed: the next listing differs then.
            let Ok(metadata) = entry.metadata() else { continue };
            let changed = Duration::new(
                metadata.mtime().unsigned_abs(),
                u32::try_from(metadata.mtime_nsec()).expect("less than a second"),
            );
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
            found.push((entry.path(), metadata.len(), changed));
        }
    }
    found.sort();
    found
}

/// Everything that can be read as of an index.
fn everything(store: &dyn MetaStore, at: LogIndex) -> Vec<(Table, Key, Vec<u8>)> {
    let mut found = Vec::new();
    for table in Table::ALL {
        let rows = store.scan_prefix(table, &Key::empty(), at).expect("reads");
        found.extend(rows.into_iter().map(|(key, value)| (table, key, value)));
    }
    found
}

#[test]
fn both_stores_answer_alike_at_every_index_and_have_one_digest() {
    for seed in 0..6 {
        let log = log(seed, 250);
        let dir = tempfile::tempdir().expect("temporary directory");
        let memory = MemoryStore::new();
        let mut rocks = open(dir.path());
        let mut prng = Prng::from_seed(seed);
        for end in (0..=log.len()).step_by(50) {
            let size = 1 + usize::try_from(prng.below(9)).expect("small");
            let one = replay(&memory, &log, end, 1);
            let two = replay(&rocks, &log, end, size);
            assert_eq!(one, two, "seed {seed}");
            assert_eq!(rocks.digest(), memory.digest(), "seed {seed}");
            assert_eq!(rocks.raft(), memory.raft());
            rocks.flush().expect("flushes");
            drop(rocks);
            rocks = open(dir.path());
            assert_eq!(rocks.recompute_digest().expect("recomputes"), memory.digest());
            check_reads(&memory, &rocks, &mut prng);
        }
        let (mut one, mut two) = (Vec::new(), Vec::new());
        assert_eq!(
            memory.export(&mut one).expect("exports"),
            rocks.export(&mut two).expect("exports")
        );
        assert!(one == two, "the streams differ");
    }
}

fn check_reads(memory: &MemoryStore, rocks: &RocksStore, prng: &mut Prng) {
    let all = everything(memory, LogIndex::MAX);
    for _ in 0..8 {
        let at = LogIndex(prng.below(applied(memory) + 2));
        assert_eq!(everything(memory, at), everything(rocks, at), "at {at}");
        let Some((table, key, _)) = prng.pick(&all) else { return };
        assert_eq!(
            memory.get_at(*table, key, at).expect("reads"),
            rocks.get_at(*table, key, at).expect("reads"),
        );
        assert_eq!(
            memory.versions(*table, key).expect("reads"),
            rocks.versions(*table, key).expect("reads"),
        );
        let cut = usize::try_from(prng.below(key.0.len() as u64 + 1)).expect("small");
        let prefix = Key(key.0[..cut].to_vec());
        let limit = 1 + usize::try_from(prng.below(5)).expect("small");
        let from = prng.one_in(2).then_some(key);
        let range = ScanRange { table: *table, prefix: &prefix, from, limit };
        assert_eq!(
            memory.scan_at(&range, at).expect("reads"),
            rocks.scan_at(&range, at).expect("reads"),
        );
        assert_eq!(
            memory.prunable(&range, at).expect("reads"),
            rocks.prunable(&range, at).expect("reads"),
        );
    }
}

#[test]
fn a_crash_leaves_what_was_flushed_and_replay_catches_up() {
    let log = log(11, 200);
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    replay(&store, &log, 80, 7);
    assert_eq!(store.durable(), None, "nothing was flushed");
    assert_eq!(store.flush().expect("flushes"), Some(entry_id(80)));
    replay(&store, &log, 200, 7);
    assert_eq!(store.durable(), Some(entry_id(80)));
    let crashed = copy(dir.path());
    let reopened = open(crashed.path());
    // The buffers are small: some batches after the flush may have become durable by themselves.
    let index = applied(&reopened);
    assert!((80..=200).contains(&index), "{index}");
    assert_eq!(reopened.durable(), reopened.raft().applied);
    assert_eq!(reopened.recompute_digest().expect("recomputes"), reopened.digest());
    replay(&reopened, &log, 200, 3);
    assert_eq!(reopened.digest(), store.digest());
}

#[test]
fn museum_m32_m35_a_crash_at_any_step_of_an_import_leaves_the_old_state_or_the_new() {
    let (old_log, new_log) = (log(21, 60), log(22, 300));
    let source = MemoryStore::new();
    replay(&source, &new_log, 300, 9);
    let mut snapshot = Vec::new();
    let meta = source.export(&mut snapshot).expect("exports");
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    replay(&store, &old_log, 60, 9);
    store.flush().expect("flushes");
    let (old, new) = ((60, store.digest()), (300, meta.digest));
    let mut crashes = Vec::new();
    let step = &mut |step| crashes.push((step, copy(dir.path())));
    assert_eq!(store.import_in_steps(&mut snapshot.as_slice(), step).expect("imports"), meta);
    assert_eq!((applied(&store), store.digest()), new);
    assert_eq!(store.durable(), meta.applied, "durable when it returns");
    let steps: Vec<_> = crashes.iter().map(|(step, _)| *step).collect();
    use ImportStep::{Begun, Cleaned, Pointed, Verified, Written};
    assert_eq!(steps, [Begun, Written, Verified, Pointed, Cleaned]);
    for (step, crashed) in crashes {
        let reopened = open(crashed.path());
        let found = (applied(&reopened), reopened.digest());
        assert_eq!(reopened.recompute_digest().expect("recomputes"), found.1);
        let swapped = matches!(step, Pointed | Cleaned);
        assert_eq!(found, if swapped { new } else { old }, "{step:?}");
        let left = pointer::generations(crashed.path()).expect("lists");
        assert_eq!(left.len(), 1, "{step:?} leaves {left:?}");
    }
}

#[test]
fn museum_m20_a_damaged_import_changes_nothing_and_the_next_write_succeeds() {
    let log = log(31, 120);
    let memory = MemoryStore::new();
    replay(&memory, &log, 120, 9);
    let mut snapshot = Vec::new();
    memory.export(&mut snapshot).expect("exports");
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    replay(&store, &log, 40, 9);
    let before = store.digest();
    let mut prng = Prng::from_seed(31);
    for _ in 0..20 {
        let mut damaged = snapshot.clone();
        let place = usize::try_from(prng.below(damaged.len() as u64)).expect("small");
        match prng.one_in(2) {
            true => damaged[place] ^= 1 << prng.below(8),
            false => damaged.truncate(place),
        }
        let error = store.import(&mut damaged.as_slice()).expect_err("damaged");
        assert!(matches!(error, StoreError::Snapshot { .. }), "{error:?}");
        assert_eq!(store.digest(), before);
        assert_eq!(pointer::generations(dir.path()).expect("lists"), [1]);
    }
    replay(&store, &log, 120, 9);
    assert_eq!(store.digest(), memory.digest());
    store.import(&mut snapshot.as_slice()).expect("imports");
    assert_eq!(store.digest(), memory.digest());
}

#[test]
fn museum_m21_damage_of_any_file_is_an_error_or_no_difference() {
    let log = log(41, 200);
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    replay(&store, &log, 100, 9);
    store.flush().expect("flushes");
    replay(&store, &log, 200, 9);
    store.flush().expect("flushes");
    let expect = everything(&store, LogIndex::MAX);
    let digest = store.digest();
    drop(store);
    let mut prng = Prng::from_seed(41);
    let mut found = 0;
    let mut files: Vec<PathBuf> = vec!["GENERATION".into()];
    for entry in fs::read_dir(dir.path().join("db-1")).expect("lists") {
        files.push(Path::new("db-1").join(entry.expect("lists").file_name()));
    }
    files.sort();
    for file in files {
        for damage in 0..6 {
            let copied = copy(dir.path());
            let path = copied.path().join(&file);
            harm(&path, damage, &mut prng);
            if check_damaged(copied.path(), &expect, digest) {
                found += 1;
            }
        }
    }
    // Logs, locks and options hold no data; the pointer, the manifest and the tables do.
    assert!(found >= 12, "only {found} damages were found");
}

fn harm(path: &Path, damage: u32, prng: &mut Prng) {
    let mut bytes = fs::read(path).expect("reads");
    if damage == 0 {
        fs::remove_file(path).expect("removes");
        return;
    }
    if bytes.is_empty() {
        return;
    }
    let place = usize::try_from(prng.below(bytes.len() as u64)).expect("small");
    match damage {
        1 => bytes.clear(),
        2 => bytes.truncate(place),
        _ => bytes[place] ^= 1 << prng.below(8),
    }
    #[expect(clippy::disallowed_methods, reason = "damage need not be durable")]
    fs::write(path, bytes).expect("writes");
}

/// Opens and reads a damaged store: true if the damage was found, and nothing wrong was answered
/// otherwise.
fn check_damaged(root: &Path, expect: &[(Table, Key, Vec<u8>)], digest: StateDigest) -> bool {
    let store = match RocksStore::open(root, options()) {
        Ok(store) => store,
        Err(StoreError::Corrupt { path, .. } | StoreError::Open { path, .. }) => {
            assert!(path.starts_with(root), "{}", path.display());
            return true;
        }
        Err(other) => panic!("not told as damage: {other:?}"),
    };
    for table in Table::ALL {
        match store.scan_prefix(table, &Key::empty(), LogIndex::MAX) {
            Ok(rows) => {
                let expect: Vec<_> = expect.iter().filter(|(at, ..)| *at == table).collect();
                let same = rows
                    .iter()
                    .zip(&expect)
                    .all(|(row, (_, key, value))| row.0 == *key && row.1 == *value);
                assert!(same && rows.len() == expect.len(), "{table:?} reads wrong");
            }
            Err(ViewError::Read { kind: ErrorKind::Corrupt, .. }) => return true,
            Err(other) => panic!("not told as damage: {other:?}"),
        }
    }
    assert_eq!(store.recompute_digest().expect("all was read"), digest);
    false
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(open(dir.path()));
    let db = rocksdb::DB::open_default(dir.path().join("db-1")).expect("opens");
    db.put(crate::layout::META_FORMAT, 2_u32.to_le_bytes()).expect("writes");
    drop(db);
    let error = RocksStore::open(dir.path(), options()).expect_err("newer");
    let expect = "the metadata store has format 2, this program reads up to 1";
    assert_eq!(error.to_string(), expect);
}

#[test]
fn a_store_that_lost_its_manifest_is_damaged_not_unavailable() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(open(dir.path()));
    let generation = pointer::directory(dir.path(), 1);
    let files = fs::read_dir(&generation).expect("lists").map(|file| file.expect("a file").path());
    let is_manifest = |path: &PathBuf| path.to_string_lossy().contains("MANIFEST-");
    let manifest = { files }.find(is_manifest).expect("RocksDB has one");
    fs::remove_file(manifest).expect("removes");
    let error = RocksStore::open(dir.path(), options()).expect_err("it is gone");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[test]
fn a_store_that_another_handle_has_open_is_busy_not_damaged() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let _first = open(dir.path());
    let error = RocksStore::open(dir.path(), options()).expect_err("locked");
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
}

/// Each file below a directory with its bytes, and each directory, with when they were changed.
fn contents(root: &Path) -> Vec<(PathBuf, Option<Vec<u8>>, Duration)> {
    let bytes = |path: &Path| path.is_file().then(|| fs::read(path).expect("reads"));
    listing(root).into_iter().map(|(path, _, at)| (path.clone(), bytes(&path), at)).collect()
}

#[test]
fn a_store_that_is_opened_to_read_answers_alike_takes_no_write_and_changes_no_file() {
    let log = log(71, 200);
    let dir = tempfile::tempdir().expect("temporary directory");
    let root = dir.path().join("meta");
    let notes = dir.path().join("notes");
    let look = || RocksStore::open_to_read(&root, &notes, options());
    assert!(look().expect("looks").is_none(), "there is no store yet");
    let store = open(&root);
    replay(&store, &log, 150, 9);
    store.flush().expect("flushes");
    replay(&store, &log, 200, 9);
    // As after a kill: what was not flushed is gone, and a log of RocksDB's own may lie there.
    let killed = copy(&root);
    drop(store);
    let root = killed.path().to_owned();
    let look = || RocksStore::open_to_read(&root, &notes, options()).expect("opens");
    let before = contents(&root);
    let found = look().expect("there is one");
    let memory = MemoryStore::new();
    replay(&memory, &log, usize::try_from(applied(&found)).expect("small"), 9);
    assert!(applied(&found) >= 150, "the flush is there");
    assert_eq!(everything(&found, LogIndex::MAX), everything(&memory, LogIndex::MAX));
    assert_eq!(found.recompute_digest().expect("reads"), memory.digest());
    let batch = CommitBatch::without_mutations(found.raft());
    assert!(matches!(found.commit(batch), Err(StoreError::Commit { .. })));
    found.flush().expect_err("nothing is flushed");
    drop(found);
    assert!(contents(&root) == before, "looking changed the store");
    pointer::remove(&root, 1).expect("removes");
    let gone = RocksStore::open_to_read(&root, &notes, options());
    assert!(matches!(gone, Err(StoreError::Corrupt { .. })), "{gone:?}");
}

#[test]
fn a_crash_while_the_store_is_created_starts_over() {
    let dir = tempfile::tempdir().expect("temporary directory");
    Pointer::Creating.write(dir.path()).expect("writes");
    fs::create_dir(pointer::directory(dir.path(), 1)).expect("creates");
    let store = open(dir.path());
    assert_eq!(store.raft(), RaftRecord::default());
    replay(&store, &log(51, 10), 10, 1);
    assert_eq!(applied(&store), 10);
}

#[test]
fn readers_keep_their_answers_while_an_import_replaces_everything() {
    let log = log(61, 150);
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    replay(&store, &log, 60, 9);
    let held = store.generation();
    let before = held.scan_prefix(Table::Name, &Key::empty(), LogIndex::MAX).expect("reads");
    let memory = MemoryStore::new();
    replay(&memory, &log, 150, 9);
    let mut snapshot = Vec::new();
    memory.export(&mut snapshot).expect("exports");
    store.import(&mut snapshot.as_slice()).expect("imports");
    let after = held.scan_prefix(Table::Name, &Key::empty(), LogIndex::MAX).expect("reads");
    assert_eq!(before, after);
    assert_eq!(pointer::generations(dir.path()).expect("lists"), [1, 2], "a reader holds it");
    drop(held);
    drop(store);
    let reopened = open(dir.path());
    assert_eq!(pointer::generations(dir.path()).expect("lists"), [2]);
    assert_eq!(reopened.digest(), memory.digest());
}

/// The table that is kept in memory, the one that is not, and one that has its latest value only: each has the index of
/// the last batch.
fn three_at(index: u64) -> Vec<(VersionKey, VersionWrite)> {
    let write = |table, version| {
        let (key, version) = (Key(vec![7]), LogIndex(version));
        let value = VersionWrite::Store(Some(index.to_be_bytes().to_vec()));
        (VersionKey { table, key, version }, value)
    };
    vec![write(Table::Dataset, index), write(Table::Delta, index), write(Table::Counters, 0)]
}

#[test]
fn readers_beside_commits_never_see_an_older_record_after_a_newer_one() {
    const BATCHES: u64 = 4_000;
    let dir = tempfile::tempdir().expect("a directory");
    let generation = Generation::open(&dir.path().join("db-1"), Mode::Create, &options());
    let generation = generation.expect("a store");
    let commit = |index| {
        let raft = RaftRecord { applied: Some(entry_id(index)), membership: Vec::new() };
        generation.commit(three_at(index), raft, StateDigest::default()).expect("commits");
    };
    let read = |table, at| {
        let value = generation.get_at(table, &Key(vec![7]), at).expect("reads").expect("is there");
        u64::from_be_bytes(value.try_into().expect("an index"))
    };
    commit(1);
    let reader = || {
        // More looks than there are batches, and an end also when the writer fails.
        for _ in 0..50 * BATCHES {
            let applied = generation.state().raft.applied.expect("applied").index;
            assert_eq!(read(Table::Dataset, applied), applied.0);
            // What is read behind it was written with it, or later.
            let stored = read(Table::Delta, LogIndex::MAX);
            assert!(stored <= read(Table::Dataset, LogIndex::MAX), "a part of a batch is hidden");
            assert!(stored <= read(Table::Counters, LogIndex::MAX), "a part of a batch is hidden");
            if applied.0 == BATCHES {
                break;
            }
        }
    };
    let writer = || {
        for index in 2..=BATCHES {
            commit(index);
            // As the next entry reads it.
            assert_eq!(read(Table::Dataset, LogIndex::MAX), index);
            assert_eq!(read(Table::Counters, LogIndex::MAX), index);
        }
    };
    side_by_side("store-test", 3, vec![true, false, false], |writes| match writes {
        true => writer(),
        false => reader(),
    });
}
