//! The command line.
//!
//! It must not run anything. Invariant: what is not understood is refused, never skipped.

use std::path::PathBuf;

use clap::Parser;

use crate::benches::Benchmark;

/// Measures three nodes of Alluvium and of etcd in turn, on loopback and one disk.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench-cluster")]
pub(crate) struct Args {
    /// What to measure; everything, when nothing is said
    pub(crate) benchmarks: Vec<Benchmark>,
    /// The program of Alluvium
    #[arg(long, default_value = "alluvium")]
    pub(crate) binary: PathBuf,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// Length of one timed run
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) millis: u64,
    /// How often a leader is killed, all rounds together
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) kills: u64,
    /// Only the commits of so many clients
    #[arg(long)]
    pub(crate) clients: Option<usize>,
    /// Mebibytes of rows that a new node takes over
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(128..))]
    pub(crate) snapshot_mib: u64,
    /// Small sizes, one round: does it run, not how fast
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where the data goes, instead of beside the target directory
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Write the section of docs/BENCHMARKS.md, as a run of everything does
    #[arg(long)]
    pub(crate) write: bool,
}

impl Args {
    /// Fills in what was not said.
    pub(crate) fn completed(mut self) -> Self {
        if self.quick {
            (self.rounds, self.millis, self.kills, self.snapshot_mib) = (1, 300, 1, 128);
        }
        if self.benchmarks.is_empty() {
            self.benchmarks = Benchmark::ALL.to_vec();
            self.write |= !self.quick;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("bench-cluster").chain(line.split_whitespace());
        Args::try_parse_from(words).map(Args::completed)
    }

    #[test]
    fn everything_writes_the_page_and_a_quick_run_does_not() {
        let full = parse("").expect("valid");
        assert_eq!((full.benchmarks.as_slice(), full.write), (&Benchmark::ALL[..], true));
        let quick = parse("--quick").expect("valid");
        assert_eq!((quick.write, quick.rounds, quick.kills), (false, 1, 1));
        assert!(!parse("failover --kills 5").expect("valid").write);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["fast", "commits --rounds 0", "--kills x"] {
            assert_eq!(parse(line).map(drop).ok(), None, "{line}");
        }
    }
}
