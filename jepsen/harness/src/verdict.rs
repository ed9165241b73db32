//! What a run is, from everything that was found in it.
//!
//! It must not turn a doubt into a pass, or a doubt into an anomaly. Invariant: an anomaly outweighs everything, a
//! doubt everything but an anomaly, and a run of which a part was skipped is no pass.

use serde::Serialize;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weight {
    /// Something selected could not be done on this machine.
    Skip,
    /// The harness failed, or cannot tell.
    Doubt,
    /// The product broke a promise.
    Anomaly,
}

/// Something that keeps a run from passing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    /// Which checker or phase found it.
    pub(crate) source: String,
    pub(crate) detail: String,
    /// When the call that shows it was complete.
    pub(crate) at_ns: Option<u64>,
}

impl Finding {
    pub(crate) fn anomaly(source: &str, detail: String, at_ns: Option<u64>) -> Self {
        Self { weight: Weight::Anomaly, source: source.to_owned(), detail, at_ns }
    }

    pub(crate) fn doubt(source: &str, detail: String) -> Self {
        Self { weight: Weight::Doubt, source: source.to_owned(), detail, at_ns: None }
    }

    pub(crate) fn skip(source: &str, detail: String) -> Self {
        Self { weight: Weight::Skip, source: source.to_owned(), detail, at_ns: None }
    }
}

/// All of them, in the order in which they were found.
pub(crate) type Findings = Vec<Finding>;

/// The word for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Conclusion {
    Pass,
    Invalid,
    Unknown,
    Skipped,
}

impl Conclusion {
    /// Concludes from findings.
    pub(crate) fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|finding| finding.weight).max() {
            None => Self::Pass,
            Some(Weight::Skip) => Self::Skipped,
            Some(Weight::Doubt) => Self::Unknown,
            Some(Weight::Anomaly) => Self::Invalid,
        }
    }

    /// The code that the program ends with.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Invalid => 1,
            Self::Unknown => 2,
            Self::Skipped => 3,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Invalid => "INVALID",
            Self::Unknown => "UNKNOWN",
            Self::Skipped => "SKIPPED",
        }
    }
}

/// The anomaly that was complete first, and when.
pub(crate) fn first_anomaly(findings: &[Finding]) -> Option<&Finding> {
    let anomalies = findings.iter().filter(|finding| finding.weight == Weight::Anomaly);
    anomalies.min_by_key(|finding| finding.at_ns.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anomaly_outweighs_a_doubt_and_a_doubt_a_skip() {
        let anomaly = Finding::anomaly("sets", "lost".to_owned(), Some(9));
        let early = Finding::anomaly("bank", "torn".to_owned(), Some(4));
        let doubt = Finding::doubt("harness", "it broke".to_owned());
        let skip = Finding::skip("clock/jump", "no libfaketime".to_owned());
        let check = |findings: &[&Finding], expected: Conclusion, code: u8| {
            let findings: Findings = findings.iter().copied().cloned().collect();
            let conclusion = Conclusion::of(&findings);
            assert_eq!((conclusion, conclusion.exit_code()), (expected, code));
        };
        check(&[], Conclusion::Pass, 0);
        check(&[&skip], Conclusion::Skipped, 3);
        check(&[&skip, &doubt], Conclusion::Unknown, 2);
        check(&[&doubt, &anomaly, &skip], Conclusion::Invalid, 1);
        assert_eq!(first_anomaly(&[anomaly, doubt, early.clone()]), Some(&early));
    }
}
