//! The threads around a log: one that writes for all who append, one that prepares segments ahead.
//!
//! Group commit without waiting: the writer takes all that has queued while it wrote, writes it
//! with one call, syncs once, and then tells every waiter. It never lingers in hope of more. It
//! must not decide what is accepted: that is done at the queue's door. Invariant: every callback
//! that was accepted is called once.

use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium_stdx::spawn;

use crate::core::Wal;
use crate::error::{Error, IoOperation};
use crate::handle::WalHandle;
use crate::limits;
use crate::number::{gap, sum};
use crate::shared::{Callback, Gate, Shared, Unit, Waiting};
use crate::spares;
use crate::storage::Storage;

/// The owner of the threads. Dropping it writes what was accepted, and stops them.
#[derive(Debug)]
pub struct WalService {
    gate: Arc<Gate>,
    writer: Option<JoinHandle<Result<(), Error>>>,
    preparer: Option<JoinHandle<()>>,
}

impl WalService {
    /// Starts the threads of `wal`; returns the handle for everyone else.
    ///
    /// # Errors
    /// [`Error::Io`] when the system has no thread left.
    pub fn start(wal: Wal) -> Result<(WalHandle, Self), Error> {
        let gate = Arc::clone(wal.gate());
        let (storage, bytes) = (wal.storage(), gate.lock().segment_bytes);
        let failed = |source| Error::io(IoOperation::StartThread, "wal", source);
        let mut service = Self { gate: Arc::clone(&gate), writer: None, preparer: None };
        service.writer = Some(spawn::thread("wal-writer", move || write_all(wal)).map_err(failed)?);
        let for_preparer = Arc::clone(&gate);
        let prepare = move || prepare_all(&for_preparer, storage.as_ref(), bytes);
        service.preparer = Some(spawn::thread("wal-prepare", prepare).map_err(failed)?);
        Ok((WalHandle::new(gate), service))
    }

    /// Refuses new work, writes what was accepted and the watermark, and stops the threads.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when a write had failed, now or earlier.
    pub fn shutdown(mut self) -> Result<(), Error> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.gate.lock().closed = true;
        self.gate.work.notify_all();
        self.gate.wanted.notify_all();
        self.gate.room.notify_waiters();
        let prepared = self.preparer.take().map_or(Ok(()), JoinHandle::join);
        let written = self.writer.take().map_or(Ok(Ok(())), JoinHandle::join);
        match (written, prepared) {
            (Ok(result), Ok(())) => result,
            // The thread's own guard has poisoned the log: a panic is told as such.
            (Err(_), _) | (_, Err(_)) => self.gate.lock().alive(),
        }
    }
}

impl Drop for WalService {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            // Every waiter and every later call was told; a destructor has nobody else to tell.
            drop(error);
        }
    }
}

/// Poisons the log when its thread panics, so that nobody waits for a thread that is gone.
struct PanicGuard(Arc<Gate>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut shared = self.0.lock();
            let source = Arc::new(std::io::Error::other("a thread of the log panicked"));
            shared.poison.get_or_insert((IoOperation::WriteRecords, source));
            let waiting = std::mem::take(&mut shared.queue);
            let error = shared.alive();
            drop(shared);
            self.0.room.notify_waiters();
            if let Err(error) = error {
                fail(waiting.into_iter().map(|waiting| waiting.callback), &error);
            }
        }
    }
}

enum Work {
    Write(Vec<Waiting>),
    Idle,
    Stop,
}

fn write_all(mut wal: Wal) -> Result<(), Error> {
    let gate = Arc::clone(wal.gate());
    let _guard = PanicGuard(Arc::clone(&gate));
    loop {
        match next_work(&gate, wal.watermark_trails()) {
            Work::Write(batch) => write_batch(&mut wal, &gate, batch)?,
            Work::Idle => wal.write_watermark().inspect_err(|error| fail_queue(&gate, error))?,
            Work::Stop => return wal.close(),
        }
    }
}

fn next_work(gate: &Gate, watermark_trails: bool) -> Work {
    let mut shared = gate.lock();
    loop {
        let batch = take_batch(&mut shared);
        if !batch.is_empty() {
            drop(shared);
            gate.room.notify_waiters();
            return Work::Write(batch);
        }
        if shared.closed {
            return Work::Stop;
        }
        if !watermark_trails {
            shared = wait(gate, shared);
            continue;
        }
        let idle = Duration::from_millis(limits::WATERMARK_IDLE_MS);
        let (guard, waited) =
            gate.work.wait_timeout(shared, idle).unwrap_or_else(std::sync::PoisonError::into_inner);
        shared = guard;
        if waited.timed_out() && shared.queue.is_empty() {
            return Work::Idle;
        }
    }
}

fn wait<'a>(gate: &Gate, shared: MutexGuard<'a, Shared>) -> MutexGuard<'a, Shared> {
    gate.work.wait(shared).unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Takes what fits one write: all of one segment, up to the limit of a batch.
fn take_batch(shared: &mut Shared) -> Vec<Waiting> {
    let mut batch: Vec<Waiting> = Vec::new();
    let mut bytes = 0;
    while let Some(next) = shared.queue.front() {
        let more = sum(bytes, next.unit.bytes);
        let joins = !next.unit.rotate_before && more <= limits::BATCH_BYTES_MAX;
        if !batch.is_empty() && !joins {
            break;
        }
        bytes = more;
        batch.extend(shared.queue.pop_front());
    }
    shared.queue_bytes = gap(shared.queue_bytes, bytes);
    batch
}

fn write_batch(wal: &mut Wal, gate: &Gate, batch: Vec<Waiting>) -> Result<(), Error> {
    let (units, callbacks): (Vec<Unit>, Vec<Callback>) =
        batch.into_iter().map(|waiting| (waiting.unit, waiting.callback)).unzip();
    match wal.write_units(&units) {
        Ok(durable) => {
            for callback in callbacks {
                callback(Ok(durable));
            }
            Ok(())
        }
        Err(error) => {
            fail(callbacks.into_iter(), &error);
            fail_queue(gate, &error);
            Err(error)
        }
    }
}

fn fail(callbacks: impl Iterator<Item = Callback>, error: &Error) {
    for callback in callbacks {
        callback(Err(error.clone()));
    }
}

/// Tells everyone who still waits. The log is poisoned, so nobody joins them.
fn fail_queue(gate: &Gate, error: &Error) {
    let mut shared = gate.lock();
    assert!(shared.poison.is_some(), "the queue fails for poison alone");
    let waiting = std::mem::take(&mut shared.queue);
    shared.queue_bytes = 0;
    drop(shared);
    gate.room.notify_waiters();
    fail(waiting.into_iter().map(|waiting| waiting.callback), error);
}

/// Keeps one segment prepared that is promised to nobody.
fn prepare_all(gate: &Arc<Gate>, storage: &dyn Storage, bytes: u64) {
    let _guard = PanicGuard(Arc::clone(gate));
    loop {
        let number = {
            let mut shared = gate.lock();
            loop {
                if shared.closed || shared.poison.is_some() {
                    return;
                }
                if shared.space.full.is_none() && shared.space.unpromised() == 0 {
                    break shared.space.take_numbers(1);
                }
                shared =
                    gate.wanted.wait(shared).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
        };
        let prepared = spares::prepare(storage, number, bytes);
        let mut shared = gate.lock();
        match prepared {
            Ok(name) => shared.space.ready.push_back(name),
            Err(Error::Full { source }) => shared.space.full = Some(source),
            Err(Error::Poisoned { operation, source } | Error::Io { operation, source, .. }) => {
                shared.poison.get_or_insert((operation, source));
            }
            Err(other) => unreachable!("preparing a spare fails by its disk alone: {other}"),
        }
        drop(shared);
        gate.room.notify_waiters();
        // The writer may wait with an empty queue; poison is told to those who come.
        gate.work.notify_all();
    }
}

#[cfg(test)]
mod tests;
