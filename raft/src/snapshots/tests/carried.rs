//! The entries that a snapshot carries: all that its state refers to, from node to node, and none of them damaged.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_state_machine::workload::Workload;
use alluvium_state_machine::{catalog, references};
use alluvium_types::{
    Append, Command, DataType, DatasetKey, DatasetOptions, Entry, Envelope, Field, FieldId,
    Outcome, Register, RowSource, Schema, SchemaVersion, Stage, StageContent, UploadId,
};
use alluvium_wal::sim::SimDisk;
use alluvium_wal::{Operation, WalHandle, WalService};
use bytes::Bytes;

use super::super::format::{EntryHead, HEAD_BYTES, HEADER_BYTES, Head, Header};
use super::*;
use crate::applier::apply_again;
use crate::error::SnapshotFault;
use crate::frame::Frame;
use crate::log_access::read_entry;
use crate::log_store::STREAM;
use crate::node::RaftNode;
use crate::offline::{OfflineLog, restore};
use crate::type_config::RaftEntry;

const TAG: u128 = 1 << 64 | 1;

fn envelope(command: Command) -> Envelope {
    let actor = "test".to_owned();
    Envelope { session: None, actor, proposed_at_ms: 1, expected_index: None, command }
}

fn register() -> Entry {
    let data_type = DataType::Int32;
    let id = Field { id: FieldId(0), name: "id".to_owned(), data_type, nullable: false };
    let command = Command::Register(Register {
        name: "a".parse().expect("a legal name"),
        schema: Schema { fields: vec![id], key_columns: vec!["id".to_owned()] },
        bucket: "main".to_owned(),
        options: DatasetOptions::standard(),
    });
    Entry::command(&envelope(command), b"").expect("small")
}

fn append(dataset: DatasetKey, source: RowSource, body: &[u8]) -> Entry {
    let command = Command::Append(Append { dataset, schema_version: SchemaVersion(1), source });
    Entry::command(&envelope(command), body).expect("small")
}

fn inline(dataset: DatasetKey, byte: u8) -> Entry {
    append(dataset, RowSource::Inline { rows: 1, rows_bytes: 64 }, &[byte; 64])
}

fn part(dataset: DatasetKey, upload: u128, part: u32) -> Entry {
    let content = StageContent::Rows { schema_version: SchemaVersion(1), rows: 1 };
    let command = Command::Stage(Stage { dataset, upload: UploadId(upload), part, content });
    Entry::command(&envelope(command), &[9; 64]).expect("small")
}

/// A log of six entries and a state that refers to five of them.
struct Small {
    store: MemoryStore,
    entries: BTreeMap<LogIndex, Entry>,
    disk: SimDisk,
    wal: WalHandle,
    service: WalService,
    _dir: tempfile::TempDir,
    snapshots: Snapshots,
}

/// The entries that the state of [`Small`] refers to: two appends, two parts of a delta, one of an open upload.
const WANTED: [LogIndex; 5] = [LogIndex(2), LogIndex(3), LogIndex(4), LogIndex(6), LogIndex(7)];

fn append_to(wal: &WalHandle, index: u64, tag: u128, entry: &Entry) {
    let payload = entry.as_bytes().clone();
    let operation = Operation::Append { stream: STREAM, index, tag, payload };
    wal.append_blocking(vec![operation]).expect("appends");
}

fn small() -> Small {
    let store = MemoryStore::new();
    let name = "a".parse().expect("a legal name");
    let id = alluvium_types::DatasetId::of(&name);
    let dataset = DatasetKey { id, incarnation: alluvium_types::Incarnation(1) };
    let staged = RowSource::Staged { upload: UploadId(1), parts: 2, content_hash: 0 };
    let entries = [
        register(),
        inline(dataset, 1),
        part(dataset, 1, 0),
        part(dataset, 1, 1),
        append(dataset, staged, b""),
        inline(dataset, 2),
        part(dataset, 2, 0),
    ];
    let disk = SimDisk::new(1);
    let (wal, service) = open_wal(&disk);
    let entries: BTreeMap<_, _> = (1..).map(LogIndex).zip(entries).collect();
    for (index, entry) in &entries {
        append_to(&wal, index.0, TAG, entry);
        let payload = Frame::new(entry.clone()).expect("a command");
        let entry = RaftEntry { log_id: log_id_of(index.0, TAG), payload };
        apply_again(&store, &[entry]).expect("applies");
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let snapshots = Snapshots::open(dir.path()).expect("opens");
    Small { store, entries, disk, wal, service, _dir: dir, snapshots }
}

impl Small {
    fn build(&self) -> Result<Current, Fault> {
        self.snapshots.build(&self.store, self.wal.reader())
    }

    fn read(&self, index: LogIndex) -> Result<Entry, Error> {
        read_entry(self.wal.reader(), || self.snapshots.carried(), index)
    }

    fn purge(&self, upto: u64) {
        let upto = alluvium_wal::Position { index: upto, tag: TAG };
        let operation = Operation::Purge { stream: STREAM, upto };
        self.wal.append_blocking(vec![operation]).expect("purges");
    }
}

#[test]
fn a_snapshot_carries_what_its_state_refers_to_and_the_bytes_are_pinned() {
    let small = small();
    let built = small.build().expect("builds");
    let mut state = Vec::new();
    small.store.export(&mut state).expect("exports");
    let state_bytes = u64::try_from(state.len()).expect("small");
    let mut expect = Header { state_bytes }.encode().to_vec();
    expect.extend_from_slice(&state);
    for index in WANTED {
        let payload = small.entries[&index].as_bytes();
        let length = u32::try_from(payload.len()).expect("small");
        let checksum = crc32c::crc32c(payload);
        let head = Head::Entry(EntryHead { index, tag: TAG, length, checksum });
        expect.extend_from_slice(&head.encode());
        expect.extend_from_slice(payload);
    }
    expect.extend_from_slice(&Head::End { entries: 5 }.encode());
    assert_eq!(durable::read_bounded(&built.file.path, 1 << 20).expect("reads"), expect);
    assert_eq!(built.file.bytes, u64::try_from(expect.len()).expect("small"));
}

#[test]
fn entries_that_the_log_purged_are_read_from_the_snapshot_and_go_into_the_next_one() {
    let small = small();
    small.build().expect("builds");
    small.purge(6);
    for index in WANTED {
        assert_eq!(small.read(index).expect("carried"), small.entries[&index]);
    }
    for index in [LogIndex(1), LogIndex(5), LogIndex(8)] {
        let absent = small.read(index);
        assert!(matches!(absent, Err(Error::NotInLog { .. })), "{index}: {absent:?}");
    }
    let first = durable::read_bounded(&small.build().expect("builds").file.path, 1 << 20);
    small.purge(7);
    let again = durable::read_bounded(&small.build().expect("builds").file.path, 1 << 20);
    assert_eq!(first.expect("reads"), again.expect("reads"));
}

#[test]
fn an_entry_that_neither_log_nor_snapshot_has_fails_the_build_by_its_index() {
    let small = small();
    small.purge(3);
    let fault = small.build().expect_err("rows would be lost");
    let Fault::Uncarried { index, source } = &fault else { panic!("{fault:?}") };
    assert_eq!(*index, LogIndex(2));
    assert!(matches!(source.as_ref(), Error::NotInLog { index: LogIndex(2) }), "{source:?}");
    assert!(small.snapshots.current().is_none());
    assert_eq!(names(&small.snapshots.dir), [BUILDING]);
    Snapshots::open(&small.snapshots.dir).expect("opens");
    assert_eq!(names(&small.snapshots.dir), [""; 0], "what was begun is dropped");
}

#[test]
fn a_build_that_an_installed_snapshot_overtakes_gives_way_to_it() {
    let small = small();
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    let newer = build(&Snapshots::open(elsewhere.path()).expect("opens"), &store_at(50));
    small.snapshots.adopt(&newer.file).expect("adopts");
    small.purge(7);
    let built = small.build().expect("the newer one stands");
    assert_eq!(built.meta, newer.meta);
    assert_eq!(names(&small.snapshots.dir), [name(50)]);
}

#[test]
fn a_log_that_was_shut_down_is_told_as_that() {
    let Small { store, wal, service, snapshots, _dir, .. } = small();
    service.shutdown().expect("stops");
    let fault = snapshots.build(&store, wal.reader()).expect_err("nothing can be read");
    assert!(matches!(fault, Fault::Log(alluvium_wal::Error::Closed)), "{fault:?}");
}

#[test]
fn a_reader_keeps_the_snapshot_that_it_reads_though_the_file_is_gone() {
    let small = small();
    let path = small.build().expect("builds").file.path;
    small.purge(7);
    let held = small.snapshots.carried().expect("built");
    for index in [20, 21, 22] {
        build(&small.snapshots, &store_at(index));
    }
    assert!(!path.exists(), "two newer ones are kept");
    for index in WANTED {
        let place = held.find(index).expect("carried");
        assert_eq!(&held.read(place).expect("reads").payload, small.entries[&index].as_bytes());
    }
}

#[test]
fn what_a_snapshot_carries_wins_over_an_entry_of_the_log_that_was_never_committed() {
    let small = small();
    let built = small.build().expect("builds");
    let (wal, _service) = open_wal(&SimDisk::new(2));
    for index in 1..=7 {
        append_to(&wal, index, TAG + 1, &register());
    }
    let carried = || Some(Arc::clone(&built.carried));
    let read = read_entry(wal.reader(), carried, LogIndex(2)).expect("reads");
    assert_eq!(read, small.entries[&LogIndex(2)]);
}

#[test]
fn an_entry_that_is_damaged_in_the_log_is_read_from_the_snapshot() {
    let mut small = small();
    // Opened again: what was just written is still in memory.
    small.service.shutdown().expect("stops");
    (small.wal, small.service) = open_wal(&small.disk);
    let (index, payload) = (LogIndex(2), small.entries[&LogIndex(2)].as_bytes());
    for (name, _bytes) in small.disk.files() {
        let content = small.disk.content(&name).expect("just listed");
        if let Some(at) = content.windows(payload.len()).position(|window| window == payload) {
            let last = u64::try_from(at + payload.len() - 1).expect("small");
            small.disk.flip_bit(&name, last * 8);
        }
    }
    let damaged = small.read(index);
    let is_named =
        matches!(&damaged, Err(Error::ReadLog { source: alluvium_wal::Error::Corrupt { .. } }));
    assert!(is_named, "{damaged:?}");
    let fault = small.build().expect_err("rows would be damaged");
    assert!(matches!(fault, Fault::Uncarried { index: LogIndex(2), .. }), "{fault:?}");
    let whole = self::small();
    let sent = whole.build().expect("builds").file;
    small.snapshots.adopt(&sent).expect("adopts");
    assert_eq!(&small.read(index).expect("carried"), &small.entries[&index]);
    small.build().expect("has all rows again");
}

#[test]
fn an_entry_that_is_damaged_after_the_snapshot_was_verified_is_not_returned() {
    let small = small();
    let built = small.build().expect("builds");
    small.purge(7);
    let mut bytes = durable::read_bounded(&built.file.path, 1 << 20).expect("reads");
    let place = built.carried.find(LogIndex(4)).expect("carried");
    let middle = place.at + u64::from(place.head.length) / 2;
    bytes[usize::try_from(middle).expect("small")] ^= 1;
    // In place: the snapshot has the file open.
    let file = File::options().write(true).open(&built.file.path).expect("is there");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("damages");
    let damaged = small.read(LogIndex(4));
    assert!(matches!(damaged, Err(Error::ReadEntry { .. })), "{damaged:?}");
    assert_eq!(small.read(LogIndex(3)).expect("whole"), small.entries[&LogIndex(3)]);
    let fault = small.build().expect_err("rows would be damaged");
    assert!(matches!(fault, Fault::Uncarried { index: LogIndex(4), .. }), "{fault:?}");
}

fn check(bytes: &[u8]) -> Result<SnapshotMeta, Fault> {
    check::read_to_end(&mut { bytes }).map(|(meta, _)| meta)
}

#[test]
fn every_flipped_byte_every_cut_and_every_addition_is_found() {
    let small = small();
    let built = small.build().expect("builds");
    let whole = durable::read_bounded(&built.file.path, 1 << 20).expect("reads");
    assert_eq!(check(&whole).expect("whole"), built.meta);
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        check(&damaged).expect_err("a byte is flipped");
        check(&whole[..place]).expect_err("the end is missing");
    }
    let longer = check(&[&whole[..], &[0]].concat()).expect_err("longer");
    let text = format!("what ends at offset {} is damaged: bytes follow the end", whole.len());
    assert_eq!(crate::health::chain(&longer), format!("the snapshot cannot be believed: {text}"));
    assert_eq!(check_snapshots_of(&small), Ok(()));
    let mut damaged = whole;
    let at = built.carried.find(LogIndex(7)).expect("carried").at;
    damaged[usize::try_from(at).expect("small") + 3] ^= 1;
    durable::write(&built.file.path, &damaged).expect("damages");
    let text = check_snapshots_of(&small).expect_err("damaged");
    assert!(text.contains("its checksum does not match"), "{text}");
}

fn check_snapshots_of(small: &Small) -> Result<(), String> {
    let pace = &mut |_| ControlFlow::Continue(());
    let checked = check_snapshots(&small.snapshots.dir, pace).expect("lists");
    let found = checked.into_iter().next().expect("there is one").found;
    found.map(drop).map_err(|fault| crate::health::chain(&fault))
}

/// The carried entries of a file, with their heads; and what stands before and behind them.
fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let header = bytes[..HEADER_BYTES].try_into().expect("a header");
    let start = Header::decode(header).expect("whole").state_bytes;
    let start = HEADER_BYTES + usize::try_from(start).expect("small");
    let mut parts = vec![&bytes[..start]];
    let mut rest = &bytes[start..];
    while HEAD_BYTES < rest.len() {
        let head = Head::decode(rest[..HEAD_BYTES].try_into().expect("a head")).expect("whole");
        let Head::Entry(entry) = head else { panic!("{head:?}") };
        let (part, next) = rest.split_at(HEAD_BYTES + usize::try_from(entry.length).expect("fits"));
        parts.push(part);
        rest = next;
    }
    parts.push(rest);
    parts
}

#[test]
fn museum_m32_a_snapshot_that_lacks_rows_of_its_state_is_never_believed() {
    let small = small();
    let built = small.build().expect("builds");
    let whole = durable::read_bounded(&built.file.path, 1 << 20).expect("reads");
    let parts = split(&whole);
    let (state, entries) = (parts[0], &parts[1..6]);
    // Every checksum is right: only the set of entries is another one.
    let file = |chosen: &[usize]| {
        let mut bytes = state.to_vec();
        for &entry in chosen {
            bytes.extend_from_slice(entries[entry]);
        }
        let entries = u64::try_from(chosen.len()).expect("few");
        bytes.extend_from_slice(&Head::End { entries }.encode());
        check(&bytes)
    };
    assert_eq!(file(&[0, 1, 2, 3, 4]).expect("whole"), built.meta);
    let lacks = |chosen: &[usize]| {
        let fault = file(chosen).expect_err("not whole");
        let Fault::Snapshot { source } = fault else { panic!("{chosen:?}: {fault:?}") };
        let SnapshotFault::Lacks { index } = source else {
            assert!(matches!(source, SnapshotFault::Surplus { .. }), "{chosen:?}: {source:?}");
            return None;
        };
        Some(index)
    };
    for (missing, index) in WANTED.into_iter().enumerate() {
        let chosen: Vec<usize> = (0..5).filter(|entry| *entry != missing).collect();
        assert_eq!(lacks(&chosen), Some(index));
    }
    assert_eq!(lacks(&[]), Some(WANTED[0]));
    assert_eq!(lacks(&[1, 0, 2, 3, 4]), Some(WANTED[0]));
    assert_eq!(lacks(&[0, 0, 1, 2, 3, 4]), None);
    assert_eq!(lacks(&[0, 1, 2, 3, 4, 4]), None);
    let mut miscounted = whole[..whole.len() - HEAD_BYTES].to_vec();
    miscounted.extend_from_slice(&Head::End { entries: 4 }.encode());
    let fault = check(&miscounted).expect_err("another count");
    let damaged = Fault::Snapshot {
        source: SnapshotFault::Damaged {
            offset: u64::try_from(whole.len()).expect("small"),
            reason: "it counts other entries",
        },
    };
    assert_eq!(crate::health::chain(&fault), crate::health::chain(&damaged));
}

#[test]
fn a_snapshot_with_a_damaged_entry_is_set_aside_and_one_of_a_newer_program_is_left_alone() {
    let small = small();
    let dir = small.snapshots.dir.clone();
    let older = tempfile::tempdir().expect("temporary directory");
    let older = build(&Snapshots::open(older.path()).expect("opens"), &store_at(5)).file.path;
    fs::copy(older, dir.join(name(5))).expect("copies");
    let built = small.build().expect("builds");
    let whole = durable::read_bounded(&built.file.path, 1 << 20).expect("reads");

    let mut newer = whole.clone();
    newer[4] = 2;
    let checksum = crc32c::crc32c(&newer[..28]).to_le_bytes();
    newer[28..32].copy_from_slice(&checksum);
    durable::write(&built.file.path, &newer).expect("writes");
    let refused = Snapshots::open(&dir).expect_err("newer");
    let text = "the snapshot cannot be believed: it has format 2, this program reads up to 1";
    assert_eq!(crate::health::chain(&refused), text);
    assert_eq!(names(&dir), [name(5), name(7)]);

    let mut damaged = whole;
    let last = damaged.len() - HEAD_BYTES - 1;
    damaged[last] ^= 1;
    durable::write(&built.file.path, &damaged).expect("damages");
    let current = Snapshots::open(&dir).expect("opens").current().expect("falls back");
    assert_eq!(current.meta.applied.map(|applied| applied.index), Some(LogIndex(5)));
    assert_eq!(names(&dir), [name(5), format!("{:020}.damaged", 7)]);
}

#[test]
fn the_log_of_a_node_that_does_not_run_has_the_entries_of_its_snapshot() {
    let small = small();
    let path = small.build().expect("builds").file.path;
    small.purge(7);
    let log = OfflineLog::new(small.wal.reader().clone());
    let absent = log.entry(LogIndex(2));
    assert!(matches!(absent, Err(Error::NotInLog { .. })), "{absent:?}");
    let log = log.with_snapshot(&path).expect("whole");
    for index in WANTED {
        assert_eq!(log.entry(index).expect("carried"), small.entries[&index]);
    }
    let restored = MemoryStore::new();
    restore(&restored, &path).expect("restores");
    assert_eq!(restored.digest(), small.store.digest());
    assert_eq!(restored.raft(), small.store.raft());
}

/// Proposes random commands, one after the other.
async fn work(running: &crate::support::Running, workload: &mut Workload, count: u64) {
    for _ in 0..count {
        let store = running.node.store.as_ref();
        let (envelope, body) = workload.next(store, applied_index(store).next()).expect("reads");
        let entry = Entry::command(&envelope, &body).expect("small");
        let response = running.node.propose(entry).await.expect("acknowledged");
        workload.answered(&response);
    }
}

/// The entries that a state refers to.
fn wanted(store: &MemoryStore) -> BTreeSet<LogIndex> {
    let mut stream = Vec::new();
    store.export(&mut stream).expect("exports");
    references(&mut stream.as_slice()).expect("reads").1
}

fn entries(node: &RaftNode, store: &MemoryStore) -> BTreeMap<LogIndex, (u64, Bytes)> {
    let entry = |index| {
        let term = node.log_term(index).expect("held").0;
        (index, (term, node.log_entry(index).expect("held").as_bytes().clone()))
    };
    wanted(store).into_iter().map(entry).collect()
}

/// Puts the current snapshot of one node into place at another that has nothing, as an install does.
fn install_from(source: &RaftNode, seed: u64) -> Machine {
    let sent = source.snapshots.current().expect("built");
    let target = Machine::new(seed);
    let snapshots = Snapshots::open(&target.snapshots_dir()).expect("opens");
    let expected = sent.last_log_id();
    install(target.store.as_ref(), &snapshots, &sent.file, expected).expect("installs");
    target
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m32_unsealed_rows_go_from_node_to_node_with_the_snapshot() {
    for seed in 60..64 {
        let (machine, mut workload) = (Machine::new(seed), Workload::from_seed(seed));
        let first = machine.start().await;
        work(&first, &mut workload, 150).await;
        first.node.trigger_snapshot().await.expect("built");
        let held = entries(&first.node, &machine.store);
        assert!(3 < held.len(), "seed {seed} leaves rows in the log");

        let machine = install_from(&first.node, seed + 100);
        let second = machine.start().await;
        assert_eq!(entries(&second.node, &machine.store), held, "seed {seed}");
        let low = *held.keys().next().expect("counted");
        assert!(Some(low) < second.node.log_bounds().expect("reads").first, "it has no such log");
        // Its own snapshots have the rows too, those of the snapshot and those of its log, purged or not.
        for _ in 0..3 {
            work(&second, &mut workload, 20).await;
            let held = entries(&second.node, &machine.store);
            second.node.trigger_snapshot().await.expect("built");
            second.node.purge(LogIndex::MAX).await.expect("purges").expect("something");
            assert_eq!(entries(&second.node, &machine.store), held, "seed {seed}");
        }
        let held = entries(&second.node, &machine.store);

        let machine = install_from(&second.node, seed + 200);
        let third = machine.start().await;
        assert_eq!(entries(&third.node, &machine.store), held, "seed {seed}");
        assert!(third.node.status().fault.is_none() && second.node.status().fault.is_none());
    }
}

/// A snapshot and a purge as the engine takes them: what the state needs stays in the log.
async fn look_after(running: &crate::support::Running) {
    let (node, store) = (&running.node, running.node.store.as_ref());
    let applied = applied_index(store);
    let retained = catalog::retained_from(store, LogIndex::MAX).expect("reads");
    let upto = retained.map_or(applied, |first| applied.min(LogIndex(first.0 - 1)));
    node.trigger_snapshot().await.expect("built");
    node.purge(upto).await.expect("purged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m45_snapshots_beside_appends_and_attestations_lack_no_row() {
    let (machine, mut workload) = (Machine::new(55), Workload::from_seed(55));
    let running = machine.start().await;
    let worked = std::pin::pin!(work(&running, &mut workload, 600));
    let looked_after = std::pin::pin!(async {
        loop {
            look_after(&running).await;
        }
    });
    let _worked = futures::future::select(worked, looked_after).await;
    look_after(&running).await;
    assert!(running.node.status().fault.is_none());
    running.node.trigger_snapshot().await.expect("built");
    let held = entries(&running.node, &machine.store);
    let bounds = running.node.log_bounds().expect("reads");
    assert!(Some(LogIndex(1)) < bounds.first, "something was purged");
    let target = install_from(&running.node, 56);
    let installed = target.start().await;
    assert_eq!(entries(&installed.node, &target.store), held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn museum_m35_rows_of_an_installed_snapshot_outlive_power_cuts_and_restarts() {
    let (machine, mut workload) = (Machine::new(71), Workload::from_seed(71));
    let source = machine.start().await;
    work(&source, &mut workload, 150).await;
    source.node.trigger_snapshot().await.expect("built");
    let held = entries(&source.node, &machine.store);
    let machine = install_from(&source.node, 72);
    for _ in 0..3 {
        let running = machine.start().await;
        assert_eq!(entries(&running.node, &machine.store), held);
        machine.crash(running).await;
    }
    // A state that is lost comes back from the same file, and so do its rows.
    let machine = Machine { store: Arc::new(MemoryStore::new()), ..machine };
    let running = machine.start().await;
    assert_eq!(entries(&running.node, &machine.store), held);
    work(&running, &mut workload, 20).await;
    assert_eq!(running.node.store.recompute_digest().expect("computes"), machine.store.digest());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_rows_are_lost_does_not_start_and_names_the_first() {
    let machine = Machine::new(81);
    let running = machine.start().await;
    let outcome = running.node.propose(register()).await.expect("acknowledged").outcome;
    let Outcome::Registered { dataset, .. } = outcome else { panic!("{outcome:?}") };
    let lost = running.node.propose(inline(dataset, 1)).await.expect("acknowledged").index;
    propose(&running.node, 10).await;
    let before = catalog::retained_from(machine.store.as_ref(), LogIndex::MAX).expect("reads");
    assert_eq!(before, Some(lost));
    running.node.trigger_snapshot().await.expect("built");
    // A caller that does not ask what is needed, and a disk that loses the snapshot.
    running.node.purge(LogIndex::MAX).await.expect("purges").expect("something");
    running.node.log_entry(lost).expect("carried");
    running.node.shutdown().await.expect("stops");
    drop(running);
    for name in names(&machine.snapshots_dir()) {
        durable::remove_file(&machine.snapshots_dir().join(name)).expect("removes");
    }
    let refused = machine.start_unready().await.err().expect("does not start");
    let Error::Poisoned { fault } = refused else { panic!("{refused:?}") };
    assert!(
        matches!(fault.as_ref(), Fault::Uncarried { index, .. } if *index == lost),
        "{fault:?}"
    );
}
