//! The log as one thread sees it: open, commit, read. The service puts a thread and a queue around
//! it.
//!
//! The simulator drives this directly. It must not start threads or read clocks. Invariant: when
//! `commit` returns success, all of it was synced; when it returns an error that is not poison,
//! none of it was accepted.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::ids::{Lsn, StreamId};
use crate::limits;
use crate::number::gap;
use crate::operation::{Durable, Operation, Options, Record, StreamState};
use crate::reader::Reader;
use crate::recovery::{self, Recovery};
use crate::shared::{Gate, NotStaged, Prepared, Shared, Unit};
use crate::spares;
use crate::storage::Storage;
use crate::writer::{Fault, Writer};

/// An open log.
pub struct Wal {
    writer: Writer,
    gate: Arc<Gate>,
    /// Holds the directory for this process.
    _lock: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("writer", &self.writer).finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log in `storage`, or makes one where there is none.
    ///
    /// All that was ever acknowledged is there afterwards, or this fails and has changed nothing.
    ///
    /// # Errors
    /// [`Error::is_corruption`] when durable bytes are damaged: every byte is left as it was.
    pub fn open(storage: Arc<dyn Storage>, options: Options) -> Result<(Self, Recovery), Error> {
        let sizes = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_MAX;
        assert!(sizes.contains(&options.segment_bytes), "segment size is outside its limits");
        assert!(
            options.segment_bytes.is_multiple_of(limits::SEGMENT_HEADER_BYTES),
            "segment size is not a multiple of 4 KiB"
        );
        let opened = recovery::open(storage, options)?;
        let gate = Arc::new(Gate::new(opened.shared));
        let mut wal = Self { writer: opened.writer, gate, _lock: opened.lock };
        wal.retire()?;
        Ok((wal, opened.report))
    }

    /// Writes and syncs `operations`, all or none.
    ///
    /// # Errors
    /// [`Error::Full`] and the errors of bad operations accept nothing and leave the log usable.
    /// After [`Error::Poisoned`] it is unknown what will be found when the log is opened again:
    /// all, a part from the front, or nothing of `operations`, and everything before them.
    pub fn commit(&mut self, operations: Vec<Operation>) -> Result<Durable, Error> {
        let prepared = Prepared::new(operations)?;
        let unit = self.stage(|shared| shared.stage(&prepared))?;
        self.write_units(&[unit])
    }

    /// Begins a new segment, so that the one before it can go once its entries are purged.
    ///
    /// # Errors
    /// As [`Wal::commit`].
    pub fn rotate(&mut self) -> Result<Durable, Error> {
        let unit = self.stage(Shared::stage_rotation)?;
        self.write_units(&[unit])
    }

    /// Writes the watermark, if it trails: what an idle log does, so that a later torn tail is told
    /// from damage.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn write_watermark(&mut self) -> Result<(), Error> {
        self.gate.lock().alive_to_write()?;
        if self.writer.watermark_trails() {
            let written = self.writer.write_watermark();
            written.map_err(|fault| self.poison(fault))?;
        }
        Ok(())
    }

    /// Returns a reader, for this or any other thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.gate))
    }

    /// Returns where `stream` begins and ends.
    ///
    /// # Errors
    /// As [`Reader::state`].
    pub fn state(&self, stream: StreamId) -> Result<StreamState, Error> {
        self.reader().state(stream)
    }

    /// Returns the durable value of a slot.
    ///
    /// # Errors
    /// As [`Reader::slot`].
    pub fn slot(&self, stream: StreamId, slot: u16) -> Result<Option<Bytes>, Error> {
        self.reader().slot(stream, slot)
    }

    /// Returns the entries of `stream` in `range`.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(
        &self,
        stream: StreamId,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<Record>, Error> {
        self.reader().read(stream, range)
    }

    /// Returns the position up to which the log is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.writer.durable.lsn
    }

    /// Writes the watermark and ends the log. A log that is merely dropped opens as well, only less
    /// sure of its last records.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn close(mut self) -> Result<(), Error> {
        self.gate.lock().alive_to_write()?;
        if self.writer.watermark_trails() {
            let written = self.writer.write_watermark();
            written.map_err(|fault| self.poison(fault))?;
        }
        self.gate.lock().closed = true;
        Ok(())
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.writer.storage)
    }

    pub(crate) fn watermark_trails(&self) -> bool {
        self.writer.watermark_trails()
    }

    fn stage(
        &mut self,
        stage: impl Fn(&mut Shared) -> Result<Unit, NotStaged>,
    ) -> Result<Unit, Error> {
        loop {
            let staged = stage(&mut self.gate.lock());
            match staged {
                Ok(unit) => return Ok(unit),
                Err(NotStaged::Refused(error)) => return Err(error),
                Err(NotStaged::NoSpare) => self.prepare_spare()?,
            }
        }
    }

    fn prepare_spare(&mut self) -> Result<(), Error> {
        let bytes = self.writer.options.segment_bytes;
        let number = self.gate.lock().space.take_numbers(1);
        let prepared = spares::prepare(self.writer.storage.as_ref(), number, bytes);
        let mut shared = self.gate.lock();
        match prepared {
            Ok(name) => {
                shared.space.ready.push_back(name);
                Ok(())
            }
            Err(error) => {
                if let Error::Poisoned { operation, source } = &error {
                    shared.poison = Some((*operation, Arc::clone(source)));
                }
                Err(error)
            }
        }
    }

    /// Writes staged units, makes them durable and readable from disk, and gives back what they set
    /// free.
    pub(crate) fn write_units(&mut self, units: &[Unit]) -> Result<Durable, Error> {
        let rotates = units.first().is_some_and(|unit| unit.rotate_before);
        let spare = rotates.then(|| self.gate.lock().space.redeem());
        let written = match self.writer.write(units, spare.as_deref()) {
            Ok(written) => written,
            Err(fault) => return Err(self.poison(fault)),
        };
        {
            let mut shared = self.gate.lock();
            shared.alive_to_write()?;
            let cache_bytes = shared.cache_bytes;
            for placed in &written.placed {
                shared.index.settle(placed, cache_bytes);
            }
            for unit in units {
                shared.settle_slots(unit);
            }
            if let Some((seq, segment)) = written.began {
                shared.segments.insert(seq, segment);
            }
        }
        self.retire()?;
        Ok(Durable { lsn: self.writer.durable.lsn })
    }

    fn retire(&mut self) -> Result<(), Error> {
        if !self.writer.can_retire() {
            return Ok(());
        }
        let (wanted, number) = {
            let mut shared = self.gate.lock();
            let ready = crate::number::u64_of(shared.space.ready.len());
            let wanted = gap(limits::SPARES_MAX.max(ready), ready);
            (wanted, shared.space.take_numbers(wanted))
        };
        let retired = match self.writer.retire(wanted, number) {
            Ok(retired) => retired,
            Err(fault) => return Err(self.poison(fault)),
        };
        let mut shared = self.gate.lock();
        for seq in retired.gone {
            shared.segments.remove(&seq);
        }
        shared.space.ready.extend(retired.spares);
        shared.space.full = None;
        drop(shared);
        self.gate.room.notify_waiters();
        Ok(())
    }

    fn poison(&self, fault: Fault) -> Error {
        let Fault { operation, source } = fault;
        let source = Arc::new(source);
        let mut shared = self.gate.lock();
        // The first failure is the one to tell: later ones follow from it.
        if shared.poison.is_none() {
            shared.poison = Some((operation, source));
        }
        let (operation, source) = shared.poison.clone().expect("set above");
        drop(shared);
        self.gate.room.notify_waiters();
        Error::Poisoned { operation, source }
    }
}

#[cfg(test)]
mod tests;
