//! The threads around the log: group commit, room, poison, shutdown.

use std::sync::mpsc;

use bytes::Bytes;

use super::*;
use crate::sim::{Faults, SimDisk};
use crate::{FsStorage, Operation, Options, Owner, Position, StreamId};

const STREAM: StreamId = StreamId(7);

fn options() -> Options {
    let mut options = Options::new(Owner { cluster: 1, node: 2 });
    options.segment_bytes = limits::SEGMENT_BYTES_MIN;
    options
}

fn open(storage: Arc<dyn Storage>) -> (WalHandle, WalService) {
    let (wal, _report) = Wal::open(storage, options()).expect("opens");
    WalService::start(wal).expect("threads")
}

fn payload(index: u64) -> Vec<u8> {
    vec![u8::try_from(index % 251).expect("small"); 300]
}

fn append_to(stream: StreamId, index: u64) -> Operation {
    let payload = Bytes::from(payload(index));
    Operation::Append { stream, index, tag: u128::from(index), payload }
}

fn append(index: u64) -> Operation {
    append_to(STREAM, index)
}

/// Returns a callback, and where its answer arrives.
fn callback() -> (Callback, mpsc::Receiver<Result<crate::Durable, Error>>) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(move |result| sender.send(result).expect("the test waits")), receiver)
}

#[test]
fn what_was_acknowledged_is_there_after_reopening_over_many_segments() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let storage = || Arc::new(FsStorage::open(dir.path()).expect("directory"));
    let (handle, service) = open(storage());
    for index in 1..=200 {
        handle.append_blocking(vec![append(index)]).expect("durable");
    }
    service.shutdown().expect("clean");
    let (handle, service) = open(storage());
    let records = handle.read(STREAM, 0..1_000).expect("reads");
    assert_eq!(records.len(), 200);
    for (record, index) in records.iter().zip(1..) {
        assert_eq!((record.index, record.payload.as_ref()), (index, payload(index).as_slice()));
        assert_eq!(record.payload.as_ptr().align_offset(64), 0, "payload is aligned");
    }
    service.shutdown().expect("clean");
}

#[test]
fn an_append_is_readable_before_it_is_durable_and_its_slot_only_after() {
    let disk = SimDisk::new(1);
    let (wal, _) = Wal::open(Arc::new(disk), options()).expect("opens");
    // No thread runs yet: nothing can have been written.
    let handle = WalHandle::new(Arc::clone(wal.gate()));
    let (on_done, done) = callback();
    let slot = Operation::Slot { stream: STREAM, slot: 1, value: Bytes::from_static(b"vote") };
    handle.try_append(vec![append(1), slot], on_done).expect("there is room");
    assert!(matches!(done.try_recv(), Err(mpsc::TryRecvError::Empty)), "not durable yet");
    let record = handle.read_record(STREAM, 1).expect("reads");
    assert_eq!(record.payload.as_ref(), payload(1));
    assert_eq!(handle.slot(STREAM, 1).expect("reads"), None);
    let (_handle, service) = WalService::start(wal).expect("threads");
    done.recv().expect("called").expect("durable");
    assert_eq!(handle.slot(STREAM, 1).expect("reads").as_deref(), Some(b"vote".as_slice()));
    service.shutdown().expect("clean");
}

#[test]
fn appends_of_many_threads_are_all_durable_and_in_order_per_stream() {
    let disk = SimDisk::new(3);
    let (handle, service) = open(Arc::new(disk.clone()));
    let threads: Vec<_> = (0..8)
        .map(|stream| {
            let handle = handle.clone();
            let work = move || {
                for index in 1..=40 {
                    handle.append_blocking(vec![append_to(StreamId(stream), index)]).expect("ok");
                }
            };
            spawn::thread("appender", work).expect("thread")
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    service.shutdown().expect("clean");
    disk.crash();
    let (handle, service) = open(Arc::new(disk));
    for stream in 0..8 {
        let found = handle.read(StreamId(stream), 0..100).expect("reads");
        let indexes: Vec<u64> = found.iter().map(|record| record.index).collect();
        assert_eq!(indexes, (1..=40).collect::<Vec<_>>());
    }
    service.shutdown().expect("clean");
}

#[test]
fn everything_that_waits_is_written_with_one_write_and_one_sync() {
    let disk = SimDisk::new(3);
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options()).expect("opens");
    wal.commit(vec![append(1)]).expect("writes");
    let handle = WalHandle::new(Arc::clone(wal.gate()));
    let waiting: Vec<_> = (2..=21)
        .map(|index| {
            let (on_done, done) = callback();
            handle.try_append(vec![append(index)], on_done).expect("there is room");
            done
        })
        .collect();
    let before = disk.operations();
    let (_handle, service) = WalService::start(wal).expect("threads");
    for done in waiting {
        done.recv().expect("called").expect("durable");
    }
    service.shutdown().expect("clean");
    // One write and one sync; the watermark at the end; and the preparer's spare.
    let spare = 2 + 1;
    let watermark = 2;
    assert!(disk.operations() - before <= 2 + watermark + spare, "{}", disk.operations() - before);
}

#[test]
fn a_failed_sync_is_told_to_all_who_wait_and_to_all_who_come() {
    let disk = SimDisk::new(3);
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options()).expect("opens");
    wal.rotate().expect("rotates");
    let handle = WalHandle::new(Arc::clone(wal.gate()));
    let waiting: Vec<_> = (1..=5)
        .map(|index| {
            let (on_done, done) = callback();
            handle.try_append(vec![append(index)], on_done).expect("there is room");
            done
        })
        .collect();
    // The write, the sync, the preparer's create: whichever is third, something of the log fails.
    let fail_at = Some(disk.operations() + 2);
    disk.set_faults(Faults { fail_at, ..Faults::default() });
    let (_handle, service) = WalService::start(wal).expect("threads");
    for done in waiting {
        let told = done.recv().expect("called");
        assert!(matches!(told, Ok(_) | Err(Error::Poisoned { .. })), "{told:?}");
    }
    let stopped = service.shutdown();
    assert!(matches!(stopped, Err(Error::Poisoned { .. })), "{stopped:?}");
    let later = handle.append_blocking(vec![append(6)]);
    assert!(matches!(later, Err(Error::Poisoned { .. })), "{later:?}");
    assert!(matches!(handle.failure(), Some(Error::Poisoned { .. })));
    assert!(matches!(handle.read(STREAM, 0..9), Err(Error::Poisoned { .. })));
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room_and_keeps_what_it_has_museum_m20() {
    let disk = SimDisk::new(3);
    let (handle, service) = open(Arc::new(disk.clone()));
    handle.append_blocking(vec![append(1)]).expect("durable");
    let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
    disk.set_faults(Faults { capacity_bytes: Some(used + 8_000), ..Faults::default() });
    let mut index = 1;
    let error = loop {
        match handle.append_blocking(vec![append(index + 1)]) {
            Ok(_) => index += 1,
            Err(error) => break error,
        }
        assert!(index < 1_000, "the disk never fills");
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(handle.state(STREAM).expect("reads").last.map(|last| last.index), Some(index));
    handle.append_blocking(vec![append(index + 1)]).map(|_| ()).expect_err("still full");
    disk.set_faults(Faults::default());
    handle.append_blocking(vec![append(index + 1)]).expect("there is room again");
    service.shutdown().expect("clean");
    disk.kill();
    let (handle, service) = open(Arc::new(disk));
    assert_eq!(handle.read(STREAM, 0..2_000).expect("reads").len() as u64, index + 1);
    service.shutdown().expect("clean");
}

#[test]
fn entries_read_while_their_segments_are_purged_and_recycled_are_right_or_gone() {
    let disk = SimDisk::new(3);
    let mut options = options();
    options.cache_bytes = 0;
    let (wal, _) = Wal::open(Arc::new(disk), options).expect("opens");
    let (handle, service) = WalService::start(wal).expect("threads");
    let reader = handle.reader().clone();
    let (stop, stopped) = mpsc::channel::<()>();
    let read = move || {
        let mut seen = 0_u64;
        while matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            for record in reader.read(STREAM, 0..u64::MAX).expect("never damage") {
                assert_eq!(record.payload.as_ref(), payload(record.index));
                seen += 1;
            }
        }
        seen
    };
    let thread = spawn::thread("reader", read).expect("thread");
    for index in 1..=600 {
        handle.append_blocking(vec![append(index)]).expect("durable");
        if index.is_multiple_of(50) {
            let upto = Position { index: index - 10, tag: u128::from(index - 10) };
            let purge = Operation::Purge { stream: STREAM, upto };
            handle.append_blocking(vec![purge]).expect("durable");
        }
    }
    stop.send(()).expect("the reader waits");
    assert!(thread.join().expect("no panic") > 0, "nothing was read");
    service.shutdown().expect("clean");
}

#[test]
fn after_shutdown_every_call_says_closed() {
    let (handle, service) = open(Arc::new(SimDisk::new(3)));
    service.shutdown().expect("clean");
    assert!(matches!(handle.append_blocking(vec![append(1)]), Err(Error::Closed)));
    assert!(matches!(handle.state(STREAM), Err(Error::Closed)));
}

#[test]
fn bad_operations_are_refused_whole_and_by_name() {
    let (handle, service) = open(Arc::new(SimDisk::new(3)));
    handle.append_blocking(vec![append(5), append(6)]).expect("durable");
    let hole = handle.append_blocking(vec![append(7), append(9)]).expect_err("a hole");
    assert!(matches!(hole, Error::NotConsecutive { expected: 8, got: 9, .. }), "{hole}");
    let large = vec![0; usize::try_from(limits::PAYLOAD_BYTES_MAX + 1).expect("64 bits")];
    let large = Operation::Append { stream: STREAM, index: 7, tag: 0, payload: large.into() };
    let error = handle.append_blocking(vec![large]).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { limit: "PAYLOAD_BYTES_MAX", .. }), "{error}");
    let upto = Position { index: 5, tag: 5 };
    handle.append_blocking(vec![Operation::Purge { stream: STREAM, upto }]).expect("purges");
    let below = vec![Operation::Truncate { stream: STREAM, after: Some(4) }];
    let below = handle.append_blocking(below).expect_err("below the purge");
    assert!(matches!(below, Error::BelowPurged { purged: 5, got: 4, .. }), "{below}");
    assert_eq!(handle.state(STREAM).expect("reads").last.map(|last| last.index), Some(6));
    service.shutdown().expect("clean");
}

#[test]
fn an_append_waits_for_room_in_the_queue_and_then_goes_on() {
    let mut options = options();
    options.segment_bytes = limits::SEGMENT_BYTES_DEFAULT;
    let (wal, _) = Wal::open(Arc::new(SimDisk::new(3)), options).expect("opens");
    let handle = WalHandle::new(Arc::clone(wal.gate()));
    let slot = |value: Vec<u8>| {
        vec![Operation::Slot { stream: STREAM, slot: 0, value: Bytes::from(value) }]
    };
    for _ in 0..limits::QUEUE_APPENDS_MAX {
        handle.try_append(slot(vec![1]), Box::new(drop)).expect("there is room");
    }
    let full = handle.try_append(slot(vec![1]), Box::new(drop));
    assert!(matches!(full, Err(Error::Busy)), "{full:?}");
    let waiter = handle.clone();
    let work = move || waiter.append_blocking(slot(vec![2]));
    let waiting = spawn::thread("appender", work).expect("thread");
    let (_handle, service) = WalService::start(wal).expect("threads");
    waiting.join().expect("no panic").expect("durable");
    assert_eq!(handle.slot(STREAM, 0).expect("reads").as_deref(), Some([2].as_slice()));
    service.shutdown().expect("clean");
}
