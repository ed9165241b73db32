//! Time as a value that can be replaced. The only file that reads the machine's clocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Reads time. Wall time may jump either way; monotonic time never goes back.
///
/// Neither decides what is true: the state machine's time is the `proposed_at_ms` of log entries.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;
    /// Returns nanoseconds since an arbitrary start; never decreases.
    fn monotonic_ns(&self) -> u64;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    #[expect(clippy::disallowed_types, reason = "this file is the seam to the machine's clock")]
    start: std::time::Instant,
}

impl SystemClock {
    /// Returns a clock whose monotonic time starts now.
    #[expect(clippy::disallowed_types, clippy::new_without_default, reason = "the seam itself")]
    #[must_use]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_types, reason = "this file is the seam to the machine's clock")]
    fn wall_ms(&self) -> u64 {
        // A machine whose clock is before 1970 reads as 1970: wall time is a stamp, never a proof.
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        millis(since_epoch)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that moves only when told to: the simulator's, and that of tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    monotonic_ns: AtomicU64,
}

impl ManualClock {
    /// Returns a clock that shows `wall_ms` and a monotonic time of zero.
    #[must_use]
    pub fn starting_at(wall_ms: u64) -> Self {
        Self { wall_ms: AtomicU64::new(wall_ms), monotonic_ns: AtomicU64::new(0) }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        self.wall_ms.fetch_add(millis(by), Ordering::SeqCst);
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_ns.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Jumps the wall time, forward or back; monotonic time does not move.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_jump_leaves_monotonic_time_alone() {
        let clock = ManualClock::starting_at(1_000);
        clock.advance(Duration::from_millis(5));
        clock.set_wall_ms(3);
        assert_eq!((clock.wall_ms(), clock.monotonic_ns()), (3, 5_000_000));
    }

    #[test]
    fn the_system_clock_never_runs_backwards() {
        let clock = SystemClock::new();
        let first = clock.monotonic_ns();
        assert!(first <= clock.monotonic_ns());
        assert!(clock.wall_ms() > 1_700_000_000_000, "wall time is before 2023");
    }
}
