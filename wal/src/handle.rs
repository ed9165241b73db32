//! How everyone but the writer uses a running log: append to its queue, read beside it.
//!
//! Clones are cheap, and every method works on any thread. It must not touch the disk to append.
//! Invariant: an append that returned success is readable at once, in order, and its callback will
//! be called.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;

use crate::error::Error;
use crate::ids::StreamId;
use crate::limits;
use crate::number::{sum, u64_of};
use crate::operation::{Durable, Operation, Record, StreamState};
use crate::reader::Reader;
use crate::shared::{Callback, Gate, NotStaged, Prepared, Waiting};

/// A handle on a running log.
#[derive(Debug, Clone)]
pub struct WalHandle {
    gate: Arc<Gate>,
    reader: Reader,
}

/// What came of one attempt to queue.
enum Attempt {
    Queued,
    /// The queue is full: the writer makes room.
    QueueFull(Callback),
    /// No segment is prepared: the preparer was asked for one.
    NoSpare(Callback),
}

impl WalHandle {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { reader: Reader::new(Arc::clone(&gate)), gate }
    }

    /// Queues `operations`, all or none, waiting for room if there is none. They are readable when
    /// this returns; `callback` is called by the writer when they are durable, or when that has
    /// failed for good.
    ///
    /// # Errors
    /// Nothing was accepted, and the callback is dropped without being called: [`Error::Full`]
    /// while the disk has no room, the errors of bad operations, [`Error::Poisoned`] and
    /// [`Error::Closed`].
    pub async fn append(
        &self,
        operations: Vec<Operation>,
        callback: Callback,
    ) -> Result<(), Error> {
        let prepared = Prepared::new(operations)?;
        let mut callback = callback;
        let mut asked = false;
        loop {
            let room = self.gate.room.notified();
            let mut room = std::pin::pin!(room);
            // Listening before looking, so that room made in between is not missed.
            room.as_mut().enable();
            match self.attempt(&prepared, callback, asked)? {
                Attempt::Queued => return Ok(()),
                Attempt::QueueFull(back) => callback = back,
                Attempt::NoSpare(back) => {
                    callback = back;
                    asked = true;
                }
            }
            room.await;
        }
    }

    /// Queues `operations` if there is room, as [`WalHandle::append`].
    ///
    /// # Errors
    /// [`Error::Busy`] when there is no room now; else as [`WalHandle::append`].
    pub fn try_append(&self, operations: Vec<Operation>, callback: Callback) -> Result<(), Error> {
        let prepared = Prepared::new(operations)?;
        match self.attempt(&prepared, callback, false)? {
            Attempt::Queued => Ok(()),
            Attempt::QueueFull(_) | Attempt::NoSpare(_) => Err(Error::Busy),
        }
    }

    /// Queues `operations` and waits until they are durable.
    ///
    /// # Errors
    /// As [`WalHandle::append`]; after [`Error::Poisoned`] it is unknown whether they are durable.
    pub async fn append_durable(&self, operations: Vec<Operation>) -> Result<Durable, Error> {
        let (sender, receiver) = oneshot::channel();
        let callback = Box::new(move |result| {
            if let Err(unheard) = sender.send(result) {
                // The caller went away while it waited; the append stands all the same.
                drop(unheard);
            }
        });
        self.append(operations, callback).await?;
        match receiver.await {
            Ok(result) => result,
            Err(oneshot::Canceled) => Err(self.failure().unwrap_or(Error::Closed)),
        }
    }

    /// Queues `operations` and blocks this thread until they are durable. Not for async code.
    ///
    /// # Errors
    /// As [`WalHandle::append_durable`].
    pub fn append_blocking(&self, operations: Vec<Operation>) -> Result<Durable, Error> {
        futures::executor::block_on(self.append_durable(operations))
    }

    /// Returns why the log no longer works, if that is so: the process should then stop.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.gate.lock().alive().err()
    }

    /// Returns the bytes of a segment, in which all operations of one append must fit with what the log adds.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.gate.lock().segment_bytes
    }

    /// Returns where `stream` begins and ends, appends that wait for the disk included.
    ///
    /// # Errors
    /// As [`Reader::state`].
    pub fn state(&self, stream: StreamId) -> Result<StreamState, Error> {
        self.reader.state(stream)
    }

    /// Returns the durable value of a slot.
    ///
    /// # Errors
    /// As [`Reader::slot`].
    pub fn slot(&self, stream: StreamId, slot: u16) -> Result<Option<Bytes>, Error> {
        self.reader.slot(stream, slot)
    }

    /// Returns the entries of `stream` in `range` that exist.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(&self, stream: StreamId, range: Range<u64>) -> Result<Vec<Record>, Error> {
        self.reader.read(stream, range)
    }

    /// Returns one entry.
    ///
    /// # Errors
    /// As [`Reader::read_record`].
    pub fn read_record(&self, stream: StreamId, index: u64) -> Result<Record, Error> {
        self.reader.read_record(stream, index)
    }

    /// Returns the reader alone, for those who must not append.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    fn attempt(
        &self,
        prepared: &Prepared,
        callback: Callback,
        asked: bool,
    ) -> Result<Attempt, Error> {
        let mut shared = self.gate.lock();
        shared.alive()?;
        let bytes = sum(shared.queue_bytes, prepared.bytes());
        let over = limits::QUEUE_BYTES_MAX < bytes
            || limits::QUEUE_APPENDS_MAX <= u64_of(shared.queue.len());
        // One append larger than the queue still passes, alone.
        if over && !shared.queue.is_empty() {
            return Ok(Attempt::QueueFull(callback));
        }
        let unit = match shared.stage(prepared) {
            Ok(unit) => unit,
            Err(NotStaged::Refused(error)) => return Err(error),
            Err(NotStaged::NoSpare) => {
                // The first look asks for a segment; a later one accepts the answer.
                if let Some(source) = shared.space.full.take()
                    && asked
                {
                    return Err(Error::Full { source });
                }
                drop(shared);
                self.gate.wanted.notify_one();
                return Ok(Attempt::NoSpare(callback));
            }
        };
        let wants_spare = shared.space.unpromised() == 0;
        shared.queue_bytes = sum(shared.queue_bytes, unit.bytes);
        shared.queue.push_back(Waiting { unit, callback });
        drop(shared);
        self.gate.work.notify_one();
        if wants_spare {
            self.gate.wanted.notify_one();
        }
        Ok(Attempt::Queued)
    }
}
