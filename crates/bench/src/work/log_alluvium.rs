//! Alluvium's log: the WAL with its writer thread, as Raft uses it.

use std::path::Path;
use std::sync::Arc;

use alluvium_stdx::{Clock as _, SystemClock};
use alluvium_wal::{
    FsStorage, Operation, Options, Owner, Position, StreamId, Wal, WalHandle, WalService,
};
use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::closed_loop::{self, Work};
use crate::same::{payload, per_gigabyte, purge_every};
use crate::sample::{Params, Sample};

const OWNER: Owner = Owner { cluster: 1, node: 1 };
const TAG: u128 = 1;
/// Records that are appended together while a log is filled.
const FILL: u64 = 4096;

fn open_wal(directory: &Path, segment_bytes: u64) -> Result<Wal> {
    let mut options = Options::new(OWNER);
    options.segment_bytes = segment_bytes;
    let (wal, _recovery) = Wal::open(Arc::new(FsStorage::open(directory)?), options)?;
    Ok(wal)
}

pub(super) fn append(params: &Params) -> Result<Sample> {
    let directory = params.text("scratch")?;
    let wal = open_wal(Path::new(directory), params.number("segment")?)?;
    let (handle, service) = WalService::start(wal)?;
    let payload = Bytes::from(payload(params)?);
    let purge_every = purge_every(params)?;
    let writer = |number: u32| writer(&handle, StreamId(number), payload.clone(), purge_every);
    let writers = u32::try_from(params.number("writers")?)?;
    let measured = closed_loop::run((0..writers).map(writer).collect(), params.number("millis")?)?;
    service.shutdown()?;
    measured.sample(1)
}

fn writer(handle: &WalHandle, stream: StreamId, payload: Bytes, purge_every: u64) -> Work {
    let handle = handle.clone();
    let mut index = 0;
    Box::new(move || {
        index += 1;
        let append = Operation::Append { stream, index, tag: TAG, payload: payload.clone() };
        let mut operations = vec![append];
        if index % purge_every == 0 {
            let upto = Position { index: index - 1, tag: TAG };
            operations.push(Operation::Purge { stream, upto });
        }
        handle.append_blocking(operations)?;
        Ok(())
    })
}

pub(super) fn fill(params: &Params) -> Result<Sample> {
    let wal = open_wal(&params.directory()?, params.number("segment")?)?;
    let (handle, service) = WalService::start(wal)?;
    let payload = Bytes::from(payload(params)?);
    let records = params.number("records")?;
    let mut first = 1;
    while first <= records {
        let last = records.min(first + FILL - 1);
        let entry = |index| Operation::Append {
            stream: StreamId(0),
            index,
            tag: TAG,
            payload: payload.clone(),
        };
        handle.append_blocking((first..=last).map(entry).collect())?;
        first = last + 1;
    }
    service.shutdown()?;
    Ok(Sample::of(0.0))
}

pub(super) fn open(params: &Params) -> Result<Sample> {
    let clock = SystemClock::new();
    let directory = params.directory()?;
    let begin = clock.monotonic_ns();
    let wal = open_wal(&directory, params.number("segment")?)?;
    let (handle, service) = WalService::start(wal)?;
    let elapsed = clock.monotonic_ns() - begin;
    let last = handle.state(StreamId(0))?.last.map(|position| position.index);
    ensure!(last == Some(params.number("records")?), "the log ends at {last:?}");
    service.shutdown()?;
    per_gigabyte(params, elapsed)
}
