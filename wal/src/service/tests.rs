//! The threads around the log, over real files.

use bytes::Bytes;

use super::*;
use crate::{FsStorage, Operation, Options, Owner, StreamId};

const STREAM: StreamId = StreamId(7);

fn options() -> Options {
    let mut options = Options::new(Owner { cluster: 1, node: 2 });
    options.segment_bytes = limits::SEGMENT_BYTES_MIN;
    options
}

fn open(dir: &std::path::Path) -> (WalHandle, WalService) {
    let storage = Arc::new(FsStorage::open(dir).expect("directory"));
    let (wal, _report) = Wal::open(storage, options()).expect("opens");
    WalService::start(wal).expect("threads")
}

fn append(index: u64) -> Operation {
    let payload = Bytes::from(vec![u8::try_from(index % 251).expect("small"); 300]);
    Operation::Append { stream: STREAM, index, tag: u128::from(index), payload }
}

#[test]
fn what_was_acknowledged_is_there_after_reopening_over_many_segments() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (handle, service) = open(dir.path());
    for index in 1..=200 {
        handle.append_blocking(vec![append(index)]).expect("durable");
    }
    service.shutdown().expect("clean");
    let (handle, service) = open(dir.path());
    let records = handle.read(STREAM, 0..1_000).expect("reads");
    assert_eq!(records.len(), 200);
    for (record, index) in records.iter().zip(1..) {
        let wanted = vec![u8::try_from(index % 251).expect("small"); 300];
        assert_eq!((record.index, record.payload.as_ref()), (index, wanted.as_slice()));
        assert_eq!(record.payload.as_ptr().align_offset(64), 0, "payload is aligned");
    }
    service.shutdown().expect("clean");
}
