//! What a served disk does with a call: it answers, it waits, or it fails.
//!
//! Two sides meet here, the threads of the file system and the world. Must not be locked while anything is unmounted or
//! detached: that may need an answer of the other side. Invariant: once the power is off nothing is written, until the
//! world has said what survives.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_stdx::Prng;

use super::overlay::{Loss, Overlay};
use crate::limits;

/// What a served disk has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Writes that were taken.
    pub(crate) writes: u64,
    /// Flushes that were done.
    pub(crate) flushes: u64,
    /// Reads that were failed.
    pub(crate) failed_reads: u64,
    /// Writes and flushes that waited their whole time.
    pub(crate) delayed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// It goes with the write that makes so many bytes wait for a flush.
    GoesAt(usize),
    Off,
}

#[derive(Debug)]
struct State {
    unflushed: Overlay,
    power: Power,
    /// What cannot be read.
    unreadable: Vec<Range<u64>>,
    /// How long each write and each flush waits.
    stall: Option<Duration>,
    counters: Counters,
    /// How often the image is open: the loop device holds it.
    opened: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Drive {
    // The threads of the file system belong to its library, so that no channel leads to them.
    state: Mutex<State>,
    changed: Condvar,
    pub(super) size: u64,
}

impl Drive {
    pub(super) fn new(size: u64) -> Self {
        let state = State {
            unflushed: Overlay::default(),
            power: Power::On,
            unreadable: Vec::new(),
            stall: None,
            counters: Counters::default(),
            opened: 0,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), size }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked did so between whole changes: a disk goes on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The side of the file system.

    pub(super) fn read(&self, beneath: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        let end = offset.saturating_add(length).min(self.size);
        if state.power == Power::Off {
            return Err(broken());
        }
        if state.unreadable.iter().any(|range| range.start < end && offset < range.end) {
            state.counters.failed_reads += 1;
            return Err(broken());
        }
        let length = usize::try_from(end.saturating_sub(offset)).map_err(io::Error::other)?;
        state.unflushed.read(beneath, offset.min(end), length)
    }

    pub(super) fn write(&self, beneath: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.wait()?;
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        state.unflushed.write(offset, bytes);
        // What a disk keeps in memory is bounded; what it has no room for it writes by itself.
        state.unflushed.drain(beneath, limits::UNFLUSHED_BYTES)?;
        state.counters.writes += 1;
        if matches!(state.power, Power::GoesAt(bytes) if bytes <= state.unflushed.bytes()) {
            state.power = Power::Off;
        }
        Ok(())
    }

    pub(super) fn flush(&self, beneath: &File) -> io::Result<()> {
        let mut state = self.wait()?;
        state.unflushed.drain(beneath, 0)?;
        state.counters.flushes += 1;
        Ok(())
    }

    /// Waits as long as the disk stalls. A stall that ends, and a power cut, let everybody go.
    fn wait(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if let Some(delay) = state.stall {
            let stalls = |state: &mut State| state.stall.is_some() && state.power != Power::Off;
            let waited = self.changed.wait_timeout_while(state, delay, stalls);
            let (again, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.counters.delayed += u64::from(outcome.timed_out());
        }
        match state.power {
            Power::Off => Err(broken()),
            Power::On | Power::GoesAt(_) => Ok(state),
        }
    }

    pub(super) fn opened(&self) {
        self.lock().opened += 1;
    }

    pub(super) fn released(&self) {
        let mut state = self.lock();
        state.opened = state.opened.saturating_sub(1);
    }

    // The side of the world.

    pub(super) fn counters(&self) -> Counters {
        self.lock().counters
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().opened > 0
    }

    pub(super) fn is_off(&self) -> bool {
        self.lock().power == Power::Off
    }

    /// Lets the power go with the write that makes so many bytes wait for a flush.
    pub(super) fn cut_at(&self, bytes: usize) {
        let mut state = self.lock();
        if state.power != Power::Off {
            state.power = Power::GoesAt(bytes);
        }
    }

    /// Lets the power go.
    pub(super) fn cut(&self) {
        self.lock().power = Power::Off;
        self.changed.notify_all();
    }

    pub(super) fn fail_reads(&self, unreadable: Vec<Range<u64>>) {
        self.lock().unreadable = unreadable;
    }

    pub(super) fn stall(&self, delay: Duration) {
        self.lock().stall = Some(delay);
    }

    /// Ends what makes calls fail or wait, but for a power cut.
    pub(super) fn calm(&self) {
        let mut state = self.lock();
        state.unreadable.clear();
        state.stall = None;
        if matches!(state.power, Power::GoesAt(_)) {
            state.power = Power::On;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes everything to the file.
    pub(super) fn settle(&self, beneath: &File) -> io::Result<()> {
        self.lock().unflushed.drain(beneath, 0)
    }

    /// Decides what of the unflushed writes survives, and gives the disk its power back.
    pub(super) fn lose(&self, beneath: &File, prng: &mut Prng) -> io::Result<Loss> {
        let mut state = self.lock();
        assert_eq!(state.power, Power::Off, "only a power cut loses anything");
        let loss = state.unflushed.lose(beneath, prng)?;
        state.power = Power::On;
        Ok(loss)
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluvium_stdx::{Clock as _, SystemClock, spawn};

    use super::*;

    const SIZE: u64 = 1 << 20;

    fn file() -> File {
        let beneath = tempfile::tempfile().expect("a file");
        beneath.set_len(SIZE).expect("a size");
        beneath
    }

    fn drive() -> (Drive, File) {
        (Drive::new(SIZE), file())
    }

    #[test]
    fn after_the_power_went_every_call_fails_until_it_was_decided_what_survives() {
        let (drive, beneath) = drive();
        drive.write(&beneath, 0, &[1; 4_096]).unwrap();
        drive.flush(&beneath).unwrap();
        drive.cut_at(1_024);
        drive.write(&beneath, 0, &[2; 512]).unwrap();
        assert!(!drive.is_off());
        drive.write(&beneath, 512, &[3; 512]).unwrap();
        assert!(drive.is_off(), "it goes with the second write");
        let failed = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EIO));
        failed(drive.write(&beneath, 0, &[4; 512]).unwrap_err());
        failed(drive.flush(&beneath).unwrap_err());
        failed(drive.read(&beneath, 0, 512).unwrap_err());
        drive.calm();
        drive.cut_at(9);
        assert!(drive.is_off(), "nothing but a decision gives it back");
        let loss = drive.lose(&beneath, &mut Prng::from_seed(1)).unwrap();
        assert_eq!(loss.writes, 2);
        assert_eq!(drive.read(&beneath, 1_024, 3_072).unwrap(), [1; 3_072]);
        assert_eq!(drive.counters().writes, 3);
    }

    #[test]
    fn a_read_fails_where_it_meets_what_is_unreadable_and_nowhere_else() {
        let (drive, beneath) = drive();
        drive.fail_reads(vec![4_096..8_192, 16_384..20_480]);
        let reads = |offset| drive.read(&beneath, offset, 4_096).is_ok();
        assert_eq!([0, 2_048, 8_192, 16_384].map(reads), [true, false, true, false]);
        drive.write(&beneath, 4_096, &[1; 512]).unwrap();
        drive.calm();
        assert!(reads(4_096));
        assert_eq!(drive.counters().failed_reads, 2);
    }

    #[test]
    fn a_write_and_a_flush_wait_while_the_disk_stalls_and_a_calm_lets_them_go() {
        let (drive, beneath) = drive();
        let delay = Duration::from_millis(30);
        drive.stall(delay);
        let clock = SystemClock::new();
        drive.write(&beneath, 0, &[1; 512]).unwrap();
        drive.flush(&beneath).unwrap();
        assert!(Duration::from_nanos(clock.monotonic_ns()) >= delay * 2);
        assert_eq!(drive.counters().delayed, 2);
        drive.stall(Duration::from_secs(3_600));
        let drive = Arc::new(drive);
        let other = Arc::clone(&drive);
        let waits = spawn::thread("waits", move || other.flush(&beneath)).unwrap();
        drive.calm();
        waits.join().unwrap().expect("the stall is over");
        assert_eq!(drive.counters().delayed, 2, "it did not wait its whole time");
        drive.stall(Duration::from_secs(3_600));
        let other = Arc::clone(&drive);
        let waits = spawn::thread("waits", move || other.write(&file(), 0, &[1])).unwrap();
        drive.cut();
        waits.join().unwrap().expect_err("no power is no reason to wait");
    }

    #[test]
    fn a_write_beyond_the_end_is_refused() {
        let (drive, beneath) = drive();
        let refused = drive.write(&beneath, SIZE - 512, &[1; 1_024]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(drive.read(&beneath, SIZE - 512, 4_096).unwrap(), [0; 512]);
        assert_eq!(drive.read(&beneath, SIZE + 512, 4_096).unwrap(), Vec::<u8>::new());
    }
}
