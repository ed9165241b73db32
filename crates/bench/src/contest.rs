//! Runs contenders in turn: each round starts every contender once, each in a process of its own.
//!
//! It must not know what is measured. Invariant: the ratio of a round compares figures of that round alone, so
//! that a machine that grows slower or faster meanwhile favors nobody.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use alluvium_stdx::SystemClock;
use anyhow::{Context as _, Result, ensure};

use crate::args::Request;
use crate::plan::Plan;
use crate::sample::{Params, Sample};
use crate::scratch::Scratch;
use alluvium_bench_kit::ui;

/// What a Python peer exits with when its library is not installed.
const ABSENT: i32 = 3;

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// How a contender is started.
#[derive(Debug, Clone)]
pub(crate) enum Run {
    /// This program, with these words.
    Own(Params),
    /// A program beside this one, which `cargo xtask bench` builds from `peers/`.
    Program(&'static str, Params),
    /// A script in `peers/`.
    Python(&'static str, Params),
}

/// One who takes part.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What an acknowledgement of it is worth.
    pub(crate) durability: &'static str,
    /// The ratio that Alluvium is to reach against it.
    pub(crate) goal: Option<f64>,
    pub(crate) run: Run,
}

impl Contender {
    pub(crate) fn own(name: &'static str, durability: &'static str, params: Params) -> Self {
        Self { name, durability, goal: None, run: Run::Own(params) }
    }

    pub(crate) fn program(
        name: &'static str,
        durability: &'static str,
        program: &'static str,
        params: Params,
    ) -> Self {
        Self { name, durability, goal: None, run: Run::Program(program, params) }
    }

    pub(crate) fn python(
        name: &'static str,
        durability: &'static str,
        script: &'static str,
        params: Params,
    ) -> Self {
        Self { name, durability, goal: None, run: Run::Python(script, params) }
    }

    pub(crate) fn goal(self, ratio: f64) -> Self {
        Self { goal: Some(ratio), ..self }
    }
}

/// The same work for all. The first contender is Alluvium.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) better: Better,
    pub(crate) contenders: Vec<Contender>,
}

/// What became of a contender.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Ran(Vec<Sample>),
    Absent(String),
    Failed(String),
}

/// A case with what became of each contender, in order.
#[derive(Debug, Clone)]
pub(crate) struct Contested {
    pub(crate) case: Case,
    pub(crate) outcomes: Vec<Outcome>,
}

/// Everything that a benchmark needs to run.
pub(crate) struct Harness {
    pub(crate) plan: Plan,
    pub(crate) scratch: Scratch,
    pub(crate) clock: Arc<SystemClock>,
    /// The root of the checkout.
    pub(crate) root: PathBuf,
}

/// What one process did.
enum Attempt {
    Sample(Sample),
    Absent(String),
}

impl Harness {
    pub(crate) fn new(request: &Request) -> Result<Self> {
        // Cargo says at run time where the crate is: two checkouts that share a target directory share this program.
        let own = std::env::var_os("CARGO_MANIFEST_DIR");
        let own = own.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own.ancestors().nth(2);
        Ok(Self {
            plan: Plan::of(request),
            scratch: Scratch::new(request.dir.as_deref())?,
            clock: Arc::new(SystemClock::new()),
            root: root.context("the crate lies in crates/bench")?.to_path_buf(),
        })
    }

    /// Runs all rounds of a case.
    pub(crate) fn contest(&self, case: Case) -> Contested {
        let mut outcomes = vec![Outcome::Ran(Vec::new()); case.contenders.len()];
        for round in 0..self.plan.rounds {
            ui::warn(&format!("    {}, round {} of {}", case.name, round + 1, self.plan.rounds));
            for (contender, outcome) in case.contenders.iter().zip(&mut outcomes) {
                let Outcome::Ran(samples) = outcome else { continue };
                match self.attempt(&contender.run) {
                    Ok(Attempt::Sample(sample)) => samples.push(sample),
                    Ok(Attempt::Absent(what)) => *outcome = Outcome::Absent(what),
                    Err(error) => *outcome = Outcome::Failed(format!("{error:#}")),
                }
            }
        }
        Contested { case, outcomes }
    }

    /// Runs one process that prepares something for a case; of an absent peer nothing is prepared.
    pub(crate) fn prepare(&self, run: Run) -> Result<()> {
        let work = match &run {
            Run::Own(params) | Run::Program(_, params) | Run::Python(_, params) => {
                params.work.clone()
            }
        };
        match self.attempt(&run).with_context(|| format!("prepare with `{work}`"))? {
            Attempt::Sample(_) | Attempt::Absent(_) => Ok(()),
        }
    }

    /// Starts a process with a `scratch` directory of its own, which is removed behind it.
    fn attempt(&self, run: &Run) -> Result<Attempt> {
        if let Run::Program(program, _) = run
            && !beside(program)?.exists()
        {
            return Ok(Attempt::Absent((*program).to_owned()));
        }
        let scratch = self.scratch.fresh()?;
        let output = self.command(run, &scratch)?.output().context("start the process");
        let removed = std::fs::remove_dir_all(&scratch).context("remove what it left");
        let output = output?;
        removed?;
        let told = String::from_utf8_lossy(&output.stderr);
        let last = told.trim_end().lines().next_back().unwrap_or_default();
        if output.status.code() == Some(ABSENT) {
            return Ok(Attempt::Absent(last.to_owned()));
        }
        ensure!(output.status.success(), "{}: {last}", output.status);
        Sample::parse(&String::from_utf8_lossy(&output.stdout)).map(Attempt::Sample)
    }

    fn command(&self, run: &Run, scratch: &Path) -> Result<Command> {
        let mut command = match run {
            Run::Own(params) => {
                let mut command = Command::new(std::env::current_exe().context("find myself")?);
                command.arg("measure").args(params.clone().path("scratch", scratch).words());
                command
            }
            Run::Program(program, params) => {
                let mut command = Command::new(beside(program)?);
                command.arg("measure").args(params.clone().path("scratch", scratch).words());
                command
            }
            Run::Python(script, params) => {
                let mut command = Command::new(python());
                command.arg(self.root.join("crates/bench/peers").join(script));
                command.args(params.clone().path("scratch", scratch).words());
                command
            }
        };
        command.stdin(std::process::Stdio::null()).current_dir(&self.root);
        Ok(command)
    }
}

/// Returns the path of a program in the directory of this one.
fn beside(program: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe().context("find myself")?.with_file_name(program))
}

/// Returns the interpreter that has the peers.
pub(crate) fn python() -> std::ffi::OsString {
    std::env::var_os("ALLUVIUM_PYTHON").unwrap_or_else(|| "python3".into())
}

impl Contested {
    /// Returns how many times better Alluvium did than the contender at `position`: the median over rounds.
    pub(crate) fn ratio(&self, position: usize) -> Option<f64> {
        let (Outcome::Ran(ours), Outcome::Ran(theirs)) =
            (self.outcomes.first()?, self.outcomes.get(position)?)
        else {
            return None;
        };
        let ratios: Vec<f64> = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| match self.case.better {
                Better::Higher => ours.value / theirs.value,
                Better::Lower => theirs.value / ours.value,
            })
            .collect();
        alluvium_bench_kit::stats::median(&ratios)
    }

    /// Says whose answer differs from Alluvium's.
    pub(crate) fn disagreements(&self) -> Vec<String> {
        let checks = self.outcomes.iter().map(|outcome| match outcome {
            Outcome::Ran(samples) => samples.iter().filter_map(|s| s.check.as_deref()).collect(),
            Outcome::Absent(_) | Outcome::Failed(_) => Vec::new(),
        });
        let checks: Vec<Vec<&str>> = checks.collect();
        let Some(expected) = checks.iter().flatten().next().copied() else { return Vec::new() };
        let named = self.case.contenders.iter().zip(&checks);
        let differing = named.filter(|(_, checks)| checks.iter().any(|check| *check != expected));
        let told = differing.map(|(contender, checks)| {
            format!("{}: {} answered {checks:?}, not {expected}", self.case.name, contender.name)
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contested(better: Better, ours: &[f64], theirs: &[f64]) -> Contested {
        let contender = |name| Contender::own(name, "", Params::new(name));
        let ran = |values: &[f64]| Outcome::Ran(values.iter().map(|&v| Sample::of(v)).collect());
        let contenders = vec![contender("ours"), contender("theirs")];
        let case = Case { name: "a case".to_owned(), better, contenders };
        Contested { case, outcomes: vec![ran(ours), ran(theirs)] }
    }

    #[test]
    fn the_ratio_pairs_rounds_and_above_one_is_always_better() {
        // The machine is three times slower in round two: the ratio of that round does not notice.
        let higher = contested(Better::Higher, &[30.0, 10.0, 20.0], &[15.0, 5.0, 20.0]);
        assert_eq!(higher.ratio(1), Some(2.0));
        let lower = contested(Better::Lower, &[1.0, 2.0, 1.0], &[3.0, 6.0, 4.0]);
        assert_eq!(lower.ratio(1), Some(3.0));
    }

    #[test]
    fn a_different_answer_is_told() {
        let mut contested = contested(Better::Lower, &[1.0], &[1.0]);
        assert_eq!(contested.disagreements(), Vec::<String>::new());
        let checks = ["42", "43"];
        for (outcome, check) in contested.outcomes.iter_mut().zip(checks) {
            *outcome = Outcome::Ran(vec![Sample::of(1.0).checked(check.to_owned())]);
        }
        assert_eq!(contested.disagreements(), ["a case: theirs answered [\"43\"], not 42"]);
    }
}
