//! What can be said on the command line.
//!
//! It must not read anything else. Invariant: the same arguments are the same run, as far as chance goes.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_world::Mode;
use clap::Parser;

use crate::workloads::Workload;

/// Runs clients against a real cluster, breaks it, and judges what the clients saw.
///
/// Ends with 0 for PASS, 1 for INVALID (an anomaly, with evidence), 2 for UNKNOWN (the harness failed, or a judge
/// cannot tell), 3 for SKIPPED (something selected cannot be done on this machine).
#[derive(Debug, Clone, Parser)]
#[command(name = "alluvium-jepsen", disable_version_flag = true)]
pub(crate) struct Args {
    /// Faults: `all`, `none`, or names of families and modes with commas between, such as `kill,pause/leader`.
    #[arg(long, default_value = "all", value_parser = modes)]
    pub(crate) nemesis: Modes,
    /// Workloads: `all`, or names with commas between, such as `w3,w5`. `w10` is `w1,w2`.
    #[arg(long, default_value = "all", value_parser = workloads)]
    pub(crate) workload: Workloads,
    /// How long faults are done. A first round of all selected modes is never cut short.
    #[arg(long, default_value_t = 3, conflicts_with = "seconds")]
    pub(crate) minutes: u64,
    /// The same in seconds.
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Decides every choice of clients, schedule and world.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many nodes the cluster has.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) nodes: u8,
    /// How many clients there are.
    #[arg(long, default_value_t = 18)]
    pub(crate) clients: usize,
    /// Operations a second of all clients together, at most.
    #[arg(long, default_value_t = 400)]
    pub(crate) rate: u64,
    /// How much log a node keeps, in MiB, beyond what it needs. The less it is, the more often a node that was away
    /// is given a snapshot.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=1024))]
    pub(crate) log_mib: u64,
    /// The product's program.
    #[arg(long, default_value = "alluvium")]
    pub(crate) binary: PathBuf,
    /// The program of the version before, for `upgrade`.
    #[arg(long)]
    pub(crate) previous: Option<PathBuf>,
    /// Where results go.
    #[arg(long, default_value = "target/jepsen")]
    pub(crate) out: PathBuf,
    /// Lets the nodes have a planted bug: the program must be built with them.
    #[arg(long)]
    pub(crate) plant: Option<String>,
    /// End with 0 only if the run is INVALID.
    #[arg(long)]
    pub(crate) expect_caught: bool,
    /// Plants each bug in turn, and ends with 0 only if all are caught.
    #[arg(long)]
    pub(crate) self_proof: bool,
    /// With `--self-proof`: only these bugs, with commas between.
    #[arg(long, value_delimiter = ',')]
    pub(crate) plants: Vec<String>,
    /// Findings of these sources are shown, and do not count: known bugs that are being mended.
    #[arg(long, value_delimiter = ',')]
    pub(crate) known: Vec<String>,
    /// Work on a fresh cluster that runs already, at these URLs, without any world: no faults, and no verdict on more
    /// than the histories.
    #[arg(long, value_delimiter = ',')]
    pub(crate) connect: Vec<String>,
    /// The `--log-level` of the nodes. What openraft says of peers that it cannot reach is what faults are for; its
    /// errors, and every warning of ours, are looked at.
    #[arg(long, default_value = "info,openraft=error")]
    pub(crate) log_level: String,
}

/// The smallest ring in which somebody is not seen by somebody.
const RING_NODES_MIN: u8 = 5;

/// A list of faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Modes(pub(crate) Vec<Mode>);

/// A list of workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workloads(pub(crate) Vec<Workload>);

fn modes(list: &str) -> Result<Modes, String> {
    match list {
        "none" => Ok(Modes(Vec::new())),
        _ => Mode::parse_list(list).map(Modes).map_err(|error| error.to_string()),
    }
}

fn workloads(list: &str) -> Result<Workloads, String> {
    let found = Workload::parse_list(list)?;
    match found.is_empty() {
        true => Err("no workload is selected".to_owned()),
        false => Ok(Workloads(found)),
    }
}

impl Args {
    /// Leaves out what a cluster of this size cannot have: in a ring of three everybody still sees everybody.
    pub(crate) fn leave_out(&mut self) {
        if self.nodes < RING_NODES_MIN && self.nemesis.0.len() > 1 {
            self.nemesis.0.retain(|mode| *mode != Mode::PartitionRing);
        }
    }

    /// How long faults are done.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_as_lists_and_times() {
        let args = ["x", "--nemesis", "kill/leader,pause", "--workload", "w5", "--seconds", "9"];
        let args = Args::try_parse_from(args).expect("they are right");
        assert_eq!(args.nemesis.0, [Mode::KillLeader, Mode::PauseLeader, Mode::PauseFollower]);
        assert_eq!(args.workload.0, [Workload::W5]);
        assert_eq!(args.time(), Duration::from_secs(9));
        let all = Args::try_parse_from(["x"]).expect("nothing is needed");
        assert_eq!(all.nemesis.0, Mode::ALL);
        assert_eq!(all.time(), Duration::from_secs(180));
        for wrong in [["x", "--nemesis", "storm"], ["x", "--workload", "w9"]] {
            assert_eq!(Args::try_parse_from(wrong).map(drop).ok(), None, "{wrong:?}");
        }
    }
}
