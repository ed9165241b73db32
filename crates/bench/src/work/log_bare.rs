//! The limits: the least that a durable log could possibly do.
//!
//! Nothing here could recover anything. Invariant: an append returns after a sync that began behind its write.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Thread;

use alluvium_stdx::{Clock as _, SystemClock};
use anyhow::{Context as _, Result, ensure};

use crate::closed_loop::{self, Measured, Work};
use crate::plan::MIB;
use crate::same::{payload, per_gigabyte};
use crate::sample::{Params, Sample};

const RAW: &str = "raw";

/// A file whose blocks are all written, used over and over.
#[derive(Debug)]
pub(super) struct Recycled {
    file: File,
    bytes: u64,
    offset: u64,
}

impl Recycled {
    pub(super) fn create(directory: &Path, bytes: u64) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(directory.join("recycled"))?;
        let zeros = vec![0; usize::try_from(MIB)?];
        for offset in (0..bytes).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(Self { file, bytes, offset: 0 })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let length = u64::try_from(bytes.len())?;
        ensure!(length <= self.bytes, "{length} bytes do not fit the file");
        if self.bytes < self.offset + length {
            self.offset = 0;
        }
        self.file.write_all_at(bytes, self.offset)?;
        self.file.sync_data()?;
        self.offset += length;
        Ok(())
    }
}

/// One writer: write, sync, again.
pub(super) fn append_alone(params: &Params) -> Result<Sample> {
    let directory = params.text("scratch")?;
    let mut recycled = Recycled::create(Path::new(directory), params.number("segment")?)?;
    let payload = payload(params)?;
    let work: Work = Box::new(move || recycled.append(&payload));
    closed_loop::run(vec![work], params.number("millis")?)?.sample(1)
}

/// Makes bytes durable, together with what others append meanwhile.
pub(super) type Append = Box<dyn FnMut(&[u8]) -> Result<()> + Send>;

/// What waits for the one who writes.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    waiting: Vec<(Thread, Arc<AtomicBool>)>,
    closed: bool,
}

/// Writers put bytes here; one thread takes all, writes and syncs once, and wakes each.
#[derive(Debug, Default)]
pub(super) struct Group {
    pending: Mutex<Pending>,
    work: Condvar,
    failed: AtomicBool,
}

impl Group {
    /// Runs writers that `writer` makes, each around its own way into the group.
    pub(super) fn run(
        recycled: Recycled,
        writers: u64,
        millis: u64,
        writer: &dyn Fn(Append) -> Work,
    ) -> Result<Measured> {
        let group = Arc::new(Self::default());
        let append = |_| {
            let group = Arc::clone(&group);
            let done = Arc::new(AtomicBool::new(false));
            writer(Box::new(move |bytes| group.append(bytes, &done)))
        };
        let works = (0..writers).map(append).collect();
        let for_thread = Arc::clone(&group);
        let write = move || for_thread.write_all(recycled);
        let thread = alluvium_stdx::spawn::thread("bare-group", write)?;
        let measured = closed_loop::run(works, millis);
        group.close();
        thread.join().map_err(|_panic| anyhow::anyhow!("the writing thread panicked"))??;
        measured
    }

    fn append(&self, payload: &[u8], done: &Arc<AtomicBool>) -> Result<()> {
        done.store(false, Ordering::Relaxed);
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.bytes.extend_from_slice(payload);
            pending.waiting.push((std::thread::current(), Arc::clone(done)));
        }
        self.work.notify_one();
        while !done.load(Ordering::Acquire) {
            std::thread::park();
        }
        ensure!(!self.failed.load(Ordering::Acquire), "the group's write failed");
        Ok(())
    }

    fn close(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.work.notify_one();
    }

    fn write_all(&self, mut recycled: Recycled) -> Result<()> {
        loop {
            let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |pending: &mut Pending| pending.waiting.is_empty() && !pending.closed;
            let waited = self.work.wait_while(pending, idle);
            let mut pending = waited.unwrap_or_else(PoisonError::into_inner);
            if pending.waiting.is_empty() {
                return Ok(());
            }
            let bytes = std::mem::take(&mut pending.bytes);
            let waiting = std::mem::take(&mut pending.waiting);
            drop(pending);
            let written = recycled.append(&bytes);
            self.failed.store(written.is_err(), Ordering::Release);
            for (thread, done) in waiting {
                done.store(true, Ordering::Release);
                thread.unpark();
            }
            written?;
        }
    }
}

/// Many writers, one sync for all who wait.
pub(super) fn append_together(params: &Params) -> Result<Sample> {
    let directory = params.text("scratch")?;
    let recycled = Recycled::create(Path::new(directory), params.number("segment")?)?;
    let payload = payload(params)?;
    let (writers, millis) = (params.number("writers")?, params.number("millis")?);
    let measured = Group::run(recycled, writers, millis, &|mut append| {
        let payload = payload.clone();
        Box::new(move || append(&payload))
    })?;
    measured.sample(1)
}

/// Writes the payloads of a log and nothing else.
pub(super) fn fill(params: &Params) -> Result<Sample> {
    let payload = payload(params)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).open(params.directory()?.join(RAW))?;
    let together = 4096;
    let block = payload.repeat(together);
    let mut offset = 0;
    let end = params.number("records")? * params.number("bytes")?;
    while offset < end {
        let left = usize::try_from(end - offset)?.min(block.len());
        file.write_all_at(block.get(..left).context("not longer than the block")?, offset)?;
        offset += u64::try_from(left)?;
    }
    file.sync_all()?;
    Ok(Sample::of(0.0))
}

/// Reads them, and computes a CRC of each.
pub(super) fn open(params: &Params) -> Result<Sample> {
    let clock = SystemClock::new();
    let length = usize::try_from(params.number("bytes")?)?;
    let begin = clock.monotonic_ns();
    let mut file = File::open(params.directory()?.join(RAW))?;
    let mut buffer = vec![0; usize::try_from(MIB)?];
    let (mut records, mut mixed) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        for record in bytes.chunks(length) {
            mixed ^= crc32c::crc32c(record);
            records += 1;
        }
    }
    let elapsed = clock.monotonic_ns() - begin;
    std::hint::black_box(mixed);
    ensure!(records == params.number("records")?, "found {records} records");
    per_gigabyte(params, elapsed)
}
