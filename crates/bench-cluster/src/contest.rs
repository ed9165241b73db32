//! Who takes part in a case, and what each of them reached in each round.
//!
//! It must not know what is measured. Invariant: the ratio of a round compares figures of that round alone, so
//! that a machine that grows slower or faster meanwhile favors nobody.

use anyhow::Result;

use alluvium_bench_kit::stats::median;

/// What an acknowledgement means when it comes after a sync on a majority.
pub(crate) const SYNCED: &str = "yes, on a majority";
/// What it means of a question: nothing is acknowledged.
pub(crate) const READS: &str = "reads only";

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// What one contender reached in one round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// The figure that is compared.
    pub(crate) value: f64,
    /// The figures beside it, in the order of the section's headings.
    pub(crate) extras: Vec<f64>,
}

/// One who takes part.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What an acknowledgement of it is worth.
    pub(crate) durability: &'static str,
    /// The ratio that Alluvium is to reach against it.
    pub(crate) goal: Option<f64>,
    pub(crate) samples: Vec<Sample>,
    /// Why it is out; it does not run again.
    pub(crate) failed: Option<String>,
}

impl Contender {
    pub(crate) fn new(name: &'static str, durability: &'static str, goal: Option<f64>) -> Self {
        Self { name, durability, goal, samples: Vec::new(), failed: None }
    }

    /// Takes note of a round.
    pub(crate) fn take(&mut self, outcome: Result<Sample>) {
        match outcome {
            Ok(sample) => self.samples.push(sample),
            Err(error) => self.failed = Some(format!("{error:#}")),
        }
    }
}

/// The same work for all. The first contender is Alluvium.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) better: Better,
    pub(crate) contenders: Vec<Contender>,
}

impl Case {
    /// Returns how many times better Alluvium did than the contender at `position`: the median over rounds.
    pub(crate) fn ratio(&self, position: usize) -> Option<f64> {
        let (ours, theirs) = (self.contenders.first()?, self.contenders.get(position)?);
        if ours.failed.is_some() || theirs.failed.is_some() {
            return None;
        }
        let ratio = |(ours, theirs): (&Sample, &Sample)| match self.better {
            Better::Higher => ours.value / theirs.value,
            Better::Lower => theirs.value / ours.value,
        };
        let ratios: Vec<f64> = ours.samples.iter().zip(&theirs.samples).map(ratio).collect();
        median(&ratios)
    }
}

/// What one benchmark found.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What was done, and what the reader should know before comparing.
    pub(crate) note: String,
    /// The heading of the compared figure, with its unit.
    pub(crate) figure: &'static str,
    /// The headings of the figures beside it.
    pub(crate) extras: &'static [&'static str],
    pub(crate) cases: Vec<Case>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contended(better: Better, ours: &[f64], theirs: &[f64]) -> Case {
        let contender = |values: &[f64]| {
            let mut contender = Contender::new("one", SYNCED, None);
            for value in values {
                contender.take(Ok(Sample { value: *value, extras: Vec::new() }));
            }
            contender
        };
        Case { name: String::new(), better, contenders: vec![contender(ours), contender(theirs)] }
    }

    #[test]
    fn the_ratio_pairs_rounds_and_above_one_is_always_better() {
        // The machine is three times slower in round two: the ratio of that round does not notice.
        let higher = contended(Better::Higher, &[30.0, 10.0, 20.0], &[15.0, 5.0, 20.0]);
        assert_eq!(higher.ratio(1), Some(2.0));
        let lower = contended(Better::Lower, &[1.0, 2.0, 1.0], &[3.0, 6.0, 4.0]);
        assert_eq!(lower.ratio(1), Some(3.0));
    }

    #[test]
    fn a_contender_that_failed_has_no_ratio() {
        let mut case = contended(Better::Higher, &[1.0], &[1.0]);
        case.contenders[1].take(Err(anyhow::anyhow!("no port")));
        assert_eq!((case.ratio(1), case.contenders[1].failed.as_deref()), (None, Some("no port")));
    }
}
