//! A directory that no process has open is verified as it lies: all damage is named, and no byte of it changes.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use alluvium_engine::{Config, Error, VerifyReport, verify_directory};
use alluvium_fault::worker::{open, open_short, perform, register, short_batch, wait_purged};
use alluvium_fault::{Fault, run_worker};
use alluvium_types::{ErrorKind, LogIndex};

use crate::corruption::{copy_dir, files_below, records_of, write};
use crate::inside::{self, runtime};
use crate::kill::calls_of;

const WORKER: &str = env!("CARGO_BIN_EXE_alluvium-fault-worker");
const OPERATIONS: usize = 20;
const SEED: u64 = 22;

/// All that a directory holds, and when each part was changed, its directories included.
type Contents = Vec<(PathBuf, u32, (i64, i64), Vec<u8>)>;

fn contents(dir: &Path) -> Contents {
    let mut paths = files_below(dir);
    let parents: Vec<_> = paths.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    let mut dirs: Vec<_> = parents.into_iter().filter(|path| path.starts_with(dir)).collect();
    dirs.sort_unstable();
    dirs.dedup();
    let mut paths_of_dirs: Vec<_> = dirs.into_iter().map(Path::to_owned).collect();
    paths.append(&mut paths_of_dirs);
    let one = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).expect("is there");
        let bytes = if metadata.is_file() { std::fs::read(&path).expect("reads") } else { vec![] };
        (path, metadata.mode(), (metadata.mtime(), metadata.mtime_nsec()), bytes)
    };
    paths.into_iter().map(one).collect()
}

/// Verifies a directory and checks that nothing in it changed.
#[track_caller]
fn look(dir: &Path) -> VerifyReport {
    let before = contents(dir);
    let report = runtime().block_on(verify_directory(&Config::single(dir))).expect("it looks");
    let after = contents(dir);
    let changed = before.iter().zip(&after).find(|(before, after)| before != after);
    let changed = changed.map(|(before, after)| (before.0.clone(), after.0.clone()));
    assert!(before == after, "looking changed {changed:?}");
    report
}

/// As [`look`], where it must find nothing wrong.
#[track_caller]
pub(crate) fn look_whole(dir: &Path) -> VerifyReport {
    let report = look(dir);
    assert_eq!(report.damage, Vec::<String>::new());
    assert_eq!(report.digest_kept, report.digest_recomputed);
    report
}

/// What a worker left that ended in good order.
fn whole(root: &Path) -> PathBuf {
    let dir = root.join("node");
    let ended = run_worker(WORKER, &dir, (SEED, OPERATIONS), None).expect("it starts");
    assert_eq!((ended.errors, ended.acknowledged), (vec![], OPERATIONS));
    dir
}

/// Digest and index of the node that opens the directory.
fn opened(dir: &Path) -> (String, LogIndex) {
    runtime().block_on(async {
        let node = open(dir).await.expect("it opens");
        let status = node.status().await.expect("status");
        node.shutdown().await.expect("it stops");
        (status.digest, status.applied)
    })
}

fn make_read_only(dir: &Path) {
    for (path, mode, ..) in contents(dir) {
        let mode = std::fs::Permissions::from_mode(mode & !0o222);
        std::fs::set_permissions(path, mode).expect("it is ours");
    }
}

fn files(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let is_it =
        |path: &PathBuf| is_wanted(&path.strip_prefix(dir).expect("below").to_string_lossy());
    let found: Vec<_> = files_below(dir).into_iter().filter(is_it).collect();
    assert!(!found.is_empty(), "the workload makes such files");
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("reads");
    bytes[at] ^= 1;
    write(path, &bytes);
}

#[test]
fn a_whole_directory_is_verified_and_not_a_byte_of_it_changes() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = whole(root.path());
    let report = look_whole(&dir);
    assert_eq!(report.notices, Vec::<String>::new());
    assert!(
        report.entries > OPERATIONS as u64 && report.files > 0 && report.rows > 0,
        "{report:?}"
    );
    make_read_only(&dir);
    assert_eq!(look_whole(&dir), report);
    // A copy without lock and metadata, as a backup may be, is as good.
    let copy = root.path().join("copy");
    copy_dir(&dir, &copy);
    std::fs::remove_dir_all(copy.join("meta")).expect("removes");
    std::fs::remove_file(copy.join("lock")).expect("removes");
    assert_eq!(look_whole(&copy), report);
}

#[test]
fn a_directory_on_a_read_only_disk_is_verified_all_the_same() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let name = "offline::a_directory_on_a_read_only_disk_is_verified_all_the_same";
    if !inside::is_inner() {
        whole(root.path());
    }
    inside::run(name, &dir, (&Fault::ReadOnly, &dir), async |dir| {
        // Every call that would change the directory fails, and so does opening a file to write.
        let report = verify_directory(&Config::single(&dir)).await.expect("it looks");
        assert_eq!(report.damage, Vec::<String>::new());
        assert!(report.files > 0, "{report:?}");
    });
}

#[test]
fn entries_that_a_killed_process_did_not_apply_are_verified_too() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("node");
    let point = Fault::Kill(calls_of(SEED) * 3 / 2);
    let ended = run_worker(WORKER, &dir, (SEED, OPERATIONS), Some(&point)).expect("it starts");
    assert!(ended.was_killed() && ended.acknowledged > 0, "{ended:?}");
    let report = look_whole(&dir);
    assert_eq!(look_whole(&dir), report, "looking twice finds the same");
    let last = report.index;
    // An opening adds one entry, the leader's first, which changes no metadata.
    assert_eq!(opened(&dir), (report.digest_kept, last.next()));
}

#[test]
fn a_torn_tail_is_reported_as_what_opening_would_cut_and_not_cut() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = whole(root.path());
    let before = look_whole(&dir);
    let segment = files(&dir, |name| name.starts_with("wal/segment-")).pop().expect("sorted");
    let mut torn = std::fs::read(&segment).expect("reads");
    let (last, length) = records_of(&torn).pop().expect("the log has records");
    torn.copy_within(last..last + length, last + length);
    // Of the next position, and half of it missing: what a power cut leaves of a write.
    let header = torn[last + length..].first_chunk().expect("long enough");
    let mut header = alluvium_wal::record::Header::decode(header).expect("a copy");
    header.prev_hash = alluvium_wal::record::chain_hash(torn[last..].first_chunk().expect("long"));
    header.lsn = header.lsn.next();
    let header = header.encode();
    torn[last + length..last + length + header.len()].copy_from_slice(&header);
    torn[last + length + header.len()] ^= 1;
    write(&segment, &torn);
    let report = look_whole(&dir);
    assert_eq!((report.index, &report.digest_kept), (before.index, &before.digest_kept));
    let [notice] = &report.notices[..] else { panic!("{:?}", report.notices) };
    let place = format!("was cut off: segment 1 ends at {}, ", last + length);
    assert!(notice.contains(&place), "{notice}");
}

#[test]
fn every_damaged_part_is_named_in_one_report() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = whole(root.path());
    let copy = root.path().join("copy");
    let mut damaged = Vec::new();
    copy_dir(&dir, &copy);

    let file = files(&copy, |name| name.ends_with(".parquet")).remove(0);
    flip(&file, std::fs::read(&file).expect("reads").len() / 2);
    damaged.push(file.file_name().expect("a name").to_string_lossy().into_owned());
    check_named(&copy, &damaged);

    let table = files(&copy, |name| name.starts_with("meta/") && name.ends_with(".sst")).remove(0);
    flip(&table, 10);
    damaged.push(table.display().to_string());
    let report = check_named(&copy, &damaged);
    assert!(report.files > 0, "the metadata is made again of the log: {report:?}");

    let segment = files(&copy, |name| name.starts_with("wal/segment-")).remove(0);
    let places = records_of(&std::fs::read(&segment).expect("reads"));
    for (offset, length) in [places[places.len() / 3], places[places.len() / 2]] {
        flip(&segment, offset + length / 2);
        damaged.push(format!("segment 1 is damaged at offset {offset}, "));
    }
    // Which files there should be is known neither of the log nor of the metadata any more.
    check_named(&copy, &damaged[1..]);

    std::fs::remove_dir_all(copy.join("meta")).expect("removes");
    copy_dir(&dir.join("meta"), &copy.join("meta"));
    damaged.remove(1);
    let report = check_named(&copy, &damaged);
    let [notice] = &report.notices[..] else { panic!("{:?}", report.notices) };
    assert!(notice.contains("were not checked"), "{notice}");
}

/// Verifies a directory that is damaged, and returns the report, in which every one of these words is said.
#[track_caller]
fn check_named(dir: &Path, words: &[String]) -> VerifyReport {
    let report = look(dir);
    for word in words {
        let named = report.damage.iter().any(|damage| damage.contains(word));
        assert!(named, "{word} is not named in {:#?}", report.damage);
    }
    assert!(report.damage.len() >= words.len(), "{:#?}", report.damage);
    report
}

/// A node whose log is purged behind snapshots.
fn purged(root: &Path) -> PathBuf {
    let dir = root.join("node");
    runtime().block_on(async {
        let node = open_short(&dir).await.expect("opens");
        register(&node).await.expect("registers");
        for number in 0..300 {
            perform(&node, &short_batch(number)).await.expect("appends");
        }
        wait_purged(&node, LogIndex(60)).await.expect("the log is purged");
        node.shutdown().await.expect("stops");
    });
    dir
}

#[test]
fn a_damaged_snapshot_is_named_and_the_state_is_made_of_another() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = purged(root.path());
    let report = look_whole(&dir);
    let snapshots = files(&dir, |name| name.starts_with("snapshots/") && name.ends_with(".alvs"));
    for snapshot in &snapshots {
        let length = std::fs::metadata(snapshot).expect("there").len();
        flip(snapshot, usize::try_from(length / 2).expect("small"));
        let found = look(&dir);
        let [damage] = &found.damage[..] else { panic!("{:#?}", found.damage) };
        assert!(damage.starts_with(&format!("snapshot {}: ", snapshot.display())), "{damage}");
        assert_eq!((found.index, found.digest_kept), (report.index, report.digest_kept.clone()));
        flip(snapshot, usize::try_from(length / 2).expect("small"));
    }
    // Without metadata the newest is what an opening starts from, and without both there is nothing to start from.
    std::fs::remove_dir_all(dir.join("meta")).expect("removes");
    assert_eq!(look_whole(&dir), report);
    for snapshot in &snapshots {
        flip(snapshot, 100);
    }
    let found = look(&dir);
    assert_eq!(found.damage.len(), snapshots.len() + 1, "{:#?}", found.damage);
    let last = found.damage.last().expect("counted");
    assert!(last.contains("and no snapshot bridges them"), "{last}");
}

#[test]
fn a_directory_that_a_process_has_open_is_refused_and_so_is_what_is_none() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = whole(root.path());
    runtime().block_on(async {
        let node = open(&dir).await.expect("it opens");
        let refused = verify_directory(&Config::single(&dir)).await.expect_err("in use");
        assert!(matches!(refused, Error::DirectoryLocked { .. }), "{refused}");
        node.shutdown().await.expect("it stops");
    });
    look_whole(&dir);
    for (path, is_made) in [(root.path().join("absent"), false), (root.path().join("empty"), true)]
    {
        if is_made {
            std::fs::create_dir(&path).expect("creates");
        }
        let refused = runtime().block_on(verify_directory(&Config::single(&path)));
        let refused = refused.expect_err("not a data directory");
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        assert_eq!(path.exists(), is_made, "nothing is made");
    }
    assert_eq!(std::fs::read_dir(root.path().join("empty")).expect("lists").count(), 0);
}

#[test]
fn a_log_that_is_gone_is_named() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = whole(root.path());
    std::fs::remove_dir_all(dir.join("wal")).expect("removes");
    let report = look(&dir);
    assert!(
        report.damage.iter().any(|damage| damage.contains("is missing or empty")),
        "{report:?}"
    );
    assert!(!dir.join("wal").exists());
}
