//! The command line.
//!
//! It must not run anything. Invariant: what is not understood is refused, never skipped.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::benches::Benchmark;
use crate::sample::Params;

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [<name>..] [options]

  all        every benchmark, as without a name; writes docs/BENCHMARKS.md unless --quick
  wal        durable log appends against raft-engine and bare group commit
  reopen     opening a log against raft-engine and a raw read
  append     rows appended durably against delta-rs and bare Arrow IPC
  sql        aggregates over files, unsealed rows and tombstones against DuckDB
  compact    rewriting Parquet against polars, DuckDB and pyarrow
  restart    opening a node with 10 to 1,000 MB of unsealed log

  --quick        small sizes, one round: does it run, not how fast
  --millis N     length of one timed run
  --rounds N     rounds; the median counts
  --dir PATH     where the data goes, instead of beside the target directory
  --write        write docs/BENCHMARKS.md from what ran
";

/// What the process is for.
pub(crate) enum Command {
    /// One contender, in a process of its own.
    Measure(Params),
    /// The one who starts and compares them.
    Contest(Request),
}

/// What to run, and how.
pub(crate) struct Request {
    pub(crate) benchmarks: Vec<Benchmark>,
    pub(crate) quick: bool,
    pub(crate) write: bool,
    pub(crate) millis: Option<u64>,
    pub(crate) rounds: Option<u64>,
    pub(crate) dir: Option<PathBuf>,
}

impl Command {
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        match words.split_first() {
            Some((first, rest)) if first == "measure" => Ok(Self::Measure(Params::parse(rest)?)),
            Some(_) | None => Ok(Self::Contest(Request::parse(words)?)),
        }
    }
}

impl Request {
    fn parse(words: &[String]) -> Result<Self> {
        let mut request = Self {
            benchmarks: Vec::new(),
            quick: false,
            write: false,
            millis: None,
            rounds: None,
            dir: None,
        };
        let mut all = false;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("`{word}` needs a value"));
            match word.as_str() {
                "all" => all = true,
                "--quick" => request.quick = true,
                "--write" => request.write = true,
                "--millis" => request.millis = Some(number(value()?)?),
                "--rounds" => request.rounds = Some(number(value()?)?),
                "--dir" => request.dir = Some(PathBuf::from(value()?)),
                name => request.benchmarks.push(
                    Benchmark::named(name).with_context(|| format!("unknown word `{name}`"))?,
                ),
            }
        }
        if all || request.benchmarks.is_empty() {
            request.benchmarks = Benchmark::ALL.to_vec();
            request.write |= !request.quick;
        }
        Ok(request)
    }
}

fn number(word: &str) -> Result<u64> {
    let number: u64 = word.parse().with_context(|| format!("`{word}` is not a number"))?;
    anyhow::ensure!(0 < number, "`{word}` must be above zero");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn all_writes_the_page_and_a_quick_run_does_not() {
        let full = parse("all").expect("valid");
        assert_eq!((full.benchmarks.len(), full.write), (Benchmark::ALL.len(), true));
        assert_eq!(parse("").expect("valid").benchmarks.len(), Benchmark::ALL.len());
        assert!(!parse("all --quick").expect("valid").write);
        assert!(!parse("wal --millis 5").expect("valid").write);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["fast", "wal --millis", "wal --millis x", "wal --rounds 0"] {
            assert!(parse(line).map(|_| ()).is_err_and(|e| !e.to_string().is_empty()), "{line}");
        }
    }
}
