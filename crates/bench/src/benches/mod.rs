//! The benchmarks: which cases there are, who takes part, and what the table says about it.
//!
//! Nothing is measured here. Invariant: the first contender of each case is Alluvium.

mod append;
mod compact;
mod reopen;
mod restart;
mod sql;
mod wal;

use anyhow::Result;

use crate::contest::Harness;
use crate::report::Section;

/// What an acknowledgement means when it comes after a sync.
pub(crate) const SYNCED: &str = "yes";

/// What it means of a question: nothing is acknowledged.
pub(crate) const READS: &str = "reads only";

/// The log of TiKV, as a program.
pub(crate) const RAFT_ENGINE: &str = "alluvium-peer-raft-engine";

/// The committed sample of real flights.
pub(crate) const SAMPLE: &str = "tests/testdata/flights-200k.parquet";

/// One benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Benchmark {
    Wal,
    Reopen,
    Append,
    Sql,
    Compact,
    Restart,
}

impl Benchmark {
    pub(crate) const ALL: [Self; 6] =
        [Self::Wal, Self::Reopen, Self::Append, Self::Sql, Self::Compact, Self::Restart];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Reopen => "reopen",
            Self::Append => "append",
            Self::Sql => "sql",
            Self::Compact => "compact",
            Self::Restart => "restart",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|benchmark| benchmark.name() == name)
    }

    pub(crate) fn run(self, harness: &Harness) -> Result<Section> {
        match self {
            Self::Wal => Ok(wal::run(harness)),
            Self::Reopen => reopen::run(harness),
            Self::Append => Ok(append::run(harness)),
            Self::Sql => sql::run(harness),
            Self::Compact => compact::run(harness),
            Self::Restart => restart::run(harness),
        }
    }
}
