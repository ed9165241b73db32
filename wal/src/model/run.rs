//! One run: a seed decides work, faults, crashes and damage; the first violation ends it.

use std::sync::Arc;

use alluvium_stdx::Prng;

use super::damage::{self, Expect};
use super::oracle::State;
use crate::planted::Planted;
use crate::sim::{Faults, SimDisk};
use crate::{Error, Notice, Operation, Options, Owner, Wal};

/// What a promise looked like when it was broken.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(Violation(format!($($message)+)));
        }
    };
}

/// What a run did, to prove that runs do not pass by doing nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) commits: u64,
    pub(super) opens: u64,
    pub(super) crashes: u64,
    pub(super) crashes_in_open: u64,
    pub(super) poisoned: u64,
    pub(super) full: u64,
    pub(super) refused_damage: u64,
    pub(super) torn_tails: u64,
    pub(super) trace: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.opens += other.opens;
        self.crashes += other.crashes;
        self.crashes_in_open += other.crashes_in_open;
        self.poisoned += other.poisoned;
        self.full += other.full;
        self.refused_damage += other.refused_damage;
        self.torn_tails += other.torn_tails;
    }
}

struct Run {
    prng: Prng,
    disk: SimDisk,
    options: Options,
    /// What was acknowledged.
    acked: State,
    /// What was under way when the log failed: any part from its front may be there.
    under_way: Vec<Operation>,
    tally: Tally,
}

const ROUNDS: u64 = 12;
const COMMITS_PER_ROUND: u64 = 14;

pub(super) fn run(seed: u64, planted: Option<Planted>) -> Result<Tally, Violation> {
    let mut prng = Prng::from_seed(seed);
    let disk = SimDisk::new(prng.next_u64());
    let mut options = Options::new(Owner { cluster: 5, node: 9 });
    options.segment_bytes = crate::limits::SEGMENT_BYTES_MIN;
    options.cache_bytes = prng.below(3) * 2_000;
    options.planted = planted;
    let (acked, under_way, tally) = (State::default(), Vec::new(), Tally::default());
    let mut run = Run { prng, disk, options, acked, under_way, tally };
    let rounds = 1 + run.prng.below(ROUNDS);
    for _ in 0..rounds {
        run.round()?;
    }
    run.tally.trace = run.disk.trace_hash();
    Ok(run.tally)
}

impl Run {
    fn round(&mut self) -> Result<(), Violation> {
        let mut wal = self.open_until_it_opens()?;
        self.compare(&wal)?;
        self.draw_faults();
        let commits = 1 + self.prng.below(COMMITS_PER_ROUND);
        for _ in 0..commits {
            let goes_on = self.work(&mut wal)?;
            if !goes_on {
                break;
            }
        }
        self.end(wal)
    }

    fn draw_faults(&mut self) {
        let at = self.disk.operations() + 1 + self.prng.below(40);
        let mut faults = Faults::default();
        match self.prng.below(6) {
            0 | 1 => faults.crash_at = Some(at),
            2 => faults.fail_at = Some(at),
            3 => {
                let used: u64 = self.disk.files().iter().map(|(_, len)| len).sum();
                faults.capacity_bytes = Some(used + self.prng.below(20_000));
            }
            _ => {}
        }
        self.disk.set_faults(faults);
    }

    /// Does one thing; false when the log has failed.
    fn work(&mut self, wal: &mut Wal) -> Result<bool, Violation> {
        match self.prng.below(16) {
            0 => self.expect_unit(|_| Vec::new(), |wal, _| wal.rotate().map(|_| ()), wal),
            1 => self.expect_unit(|_| Vec::new(), |wal, _| wal.write_watermark(), wal),
            2 => self.bad_operation(wal),
            _ => self.expect_unit(
                |run| {
                    let count = 1 + run.prng.below(6);
                    let mut state = run.acked.clone();
                    let one = |_| {
                        let operation = state.operation(&mut run.prng);
                        state.apply(&operation);
                        operation
                    };
                    (0..count).map(one).collect()
                },
                |wal, operations| wal.commit(operations).map(|_| ()),
                wal,
            ),
        }
    }

    fn expect_unit(
        &mut self,
        draw: impl FnOnce(&mut Self) -> Vec<Operation>,
        act: impl FnOnce(&mut Wal, Vec<Operation>) -> Result<(), Error>,
        wal: &mut Wal,
    ) -> Result<bool, Violation> {
        let operations = draw(self);
        match act(wal, operations.clone()) {
            Ok(()) => {
                self.tally.commits += 1;
                self.acked = self.acked.after(&operations);
                if self.prng.one_in(8) {
                    self.compare_exactly(wal)?;
                }
                Ok(true)
            }
            Err(Error::Full { .. }) => {
                self.tally.full += 1;
                self.compare_exactly(wal)?;
                // In the same process, once there is room, it works again.
                self.disk.set_faults(Faults::default());
                let again = wal.commit(operations.clone());
                ensure!(again.is_ok(), "a full disk was not forgotten: {again:?}");
                self.acked = self.acked.after(&operations);
                Ok(true)
            }
            Err(Error::TooLarge { limit: "segment_bytes", .. }) => {
                self.compare_exactly(wal)?;
                Ok(true)
            }
            Err(Error::Poisoned { .. }) => {
                self.tally.poisoned += 1;
                self.under_way = operations;
                let again = wal.commit(Vec::new());
                ensure!(matches!(again, Err(Error::Poisoned { .. })), "poison wore off: {again:?}");
                let read = wal.state(crate::StreamId(0));
                ensure!(
                    matches!(read, Err(Error::Poisoned { .. })),
                    "poison is not read: {read:?}"
                );
                Ok(false)
            }
            Err(other) => Err(Violation(format!("refused what it must accept: {other:?}"))),
        }
    }

    fn bad_operation(&mut self, wal: &Wal) -> Result<bool, Violation> {
        // Staging alone: a commit that is refused must not depend on the disk.
        let good = self.acked.operation(&mut self.prng);
        let stream = crate::StreamId(0);
        let hole = |index| {
            let payload = bytes::Bytes::new();
            Operation::Append { stream, index, tag: 0, payload }
        };
        let operations = vec![good, hole(70_000), hole(70_002)];
        let prepared = crate::shared::Prepared::new(operations).expect("within limits");
        let staged = wal.gate().lock().stage(&prepared);
        ensure!(staged.is_err(), "a hole was accepted");
        self.compare_exactly(wal)?;
        Ok(true)
    }

    fn compare_exactly(&mut self, wal: &Wal) -> Result<(), Violation> {
        match State::of(wal) {
            Ok(state) => {
                ensure!(state.same(&self.acked), "the log holds other than what was acknowledged");
                Ok(())
            }
            Err(error) => {
                Err(Violation(format!("what was acknowledged cannot be read: {error:?}")))
            }
        }
    }

    /// After reopening: what was acknowledged, and a part from the front of what was under way.
    fn compare(&mut self, wal: &Wal) -> Result<(), Violation> {
        let found = State::of(wal).map_err(|error| Violation(format!("cannot read: {error:?}")))?;
        let under_way = std::mem::take(&mut self.under_way);
        let possible = (0..=under_way.len()).map(|count| self.acked.after(&under_way[..count]));
        let Some(state) = possible.into_iter().find(|state| state.same(&found)) else {
            let (acked, under) = (&self.acked, under_way);
            return Err(Violation(format!(
                "reopened to what nobody wrote: {found:?}\nacked {acked:?}\nunder way {under:?}"
            )));
        };
        self.acked = state;
        Ok(())
    }

    fn end(&mut self, wal: Wal) -> Result<(), Violation> {
        let sound = wal.state(crate::StreamId(0)).is_ok();
        match self.prng.below(4) {
            0 | 1 => {
                drop(wal);
                self.tally.crashes += 1;
                self.disk.crash();
            }
            2 => {
                drop(wal);
                self.disk.kill();
            }
            _ => {
                self.disk.set_faults(Faults::default());
                // A log that failed cannot be closed; the process ends all the same.
                let closed = wal.close().is_ok();
                ensure!(closed == sound, "closing a sound log failed");
                self.disk.kill();
                if closed {
                    self.damage()?;
                }
            }
        }
        self.disk.set_faults(Faults::default());
        Ok(())
    }

    fn open(&self) -> Result<(Wal, crate::Recovery), Error> {
        Wal::open(Arc::new(self.disk.clone()), self.options)
    }

    /// Opens, with crashes and failures inside the opening; in the end it must open.
    fn open_until_it_opens(&mut self) -> Result<Wal, Violation> {
        for attempt in 0..4 {
            let mut faults = Faults::default();
            if attempt < 3 {
                let at = Some(1 + self.prng.below(16));
                match self.prng.below(6) {
                    0 | 1 => faults.crash_at = at.map(|at| at + self.disk.operations()),
                    2 => faults.fail_at = at.map(|at| at + self.disk.operations()),
                    3 => faults.fail_read_at = at.map(|at| at + self.disk.reads()),
                    _ => {}
                }
            }
            let faulty = attempt < 3;
            self.disk.set_faults(faults);
            let opened = self.open();
            match opened {
                Ok((wal, report)) => {
                    self.disk.set_faults(Faults::default());
                    self.tally.opens += 1;
                    let torn = |notice: &&Notice| matches!(notice, Notice::TornTail { .. });
                    self.tally.torn_tails += report.notices.iter().filter(torn).count() as u64;
                    return Ok(wal);
                }
                Err(Error::Io { .. } | Error::Poisoned { .. }) if faulty => {
                    self.tally.crashes_in_open += 1;
                    if self.prng.one_in(2) {
                        self.disk.crash();
                    } else {
                        self.disk.kill();
                    }
                }
                Err(other) => {
                    return Err(Violation(format!("a sound log does not open: {other:?}")));
                }
            }
        }
        unreachable!("the last attempt opens or is a violation")
    }

    fn damage(&mut self) -> Result<(), Violation> {
        let before: Vec<_> = self.contents();
        let Some((what, expect)) = damage::inflict(&self.disk, &mut self.prng) else {
            return Ok(());
        };
        let damaged = self.contents();
        let opened = self.open();
        match (expect, opened) {
            (Expect::Refused, Err(error)) if error.is_corruption() => {
                self.tally.refused_damage += 1;
                ensure!(self.contents() == damaged, "{what}: a refused log was written to");
                for (name, content) in &before {
                    self.disk.put(name, content);
                }
            }
            (Expect::Opens, Ok((wal, _))) => {
                self.compare_exactly(&wal)?;
                drop(wal);
            }
            (expect, outcome) => {
                let outcome = outcome.map(|(_, report)| report);
                return Err(Violation(format!("{what}: expected {expect:?}, got {outcome:?}")));
            }
        }
        self.disk.kill();
        Ok(())
    }

    fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let names = self.disk.files().into_iter().map(|(name, _)| name);
        names.map(|name| (name.clone(), self.disk.content(&name).expect("listed"))).collect()
    }
}
