//! Does the harness bite? Each planted bug in turn, with the workloads and faults that should catch it.
//!
//! It must not be satisfied with less than all. Invariant: a bug counts as caught only when its run is INVALID.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::args::Args;
use crate::verdict::Conclusion;

/// A bug, and what should show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plant {
    pub(crate) name: &'static str,
    workloads: &'static str,
    nemesis: &'static str,
    seconds: u64,
}

const fn plant(
    name: &'static str,
    (workloads, nemesis): (&'static str, &'static str),
    seconds: u64,
) -> Plant {
    Plant { name, workloads, nemesis, seconds }
}

/// Every planted bug.
pub(crate) const PLANTS: [Plant; 8] = [
    plant("ack-before-fsync", ("w3,w5,w6", "powercut/all,powercut/quorum"), 60),
    plant("commit-without-quorum", ("w3,w5,w6", "partition/leader-minority,kill/leader"), 60),
    plant("stale-local-read", ("w3,w5", "pause/leader,partition/leader-minority,wire/slow"), 60),
    plant(
        "lost-tombstone-on-install",
        ("w3,w5,w7", "bitflip/sst,membership/replace,kill/follower"),
        120,
    ),
    plant(
        "session-table-not-in-snapshot",
        ("w6", "bitflip/sst,membership/replace,kill/leader"),
        120,
    ),
    plant("truncate-at-first-bad-checksum", ("w3,w5,w6", "bitflip/wal-mid,kill/leader"), 90),
    plant("retry-failed-fsync", ("w3,w5", "fsync-fail,powercut/all"), 90),
    plant("dedup-accepts-other-payload", ("w6", "none"), 20),
];

/// How one run ended.
struct Catch {
    name: &'static str,
    is_caught: bool,
    is_skipped: bool,
    words: String,
}

/// Runs every plant, or those that are named, each in a program of its own. Returns the table, and what it comes to: a
/// machine that can do none of it has proved nothing and disproved nothing.
pub(crate) fn run(args: &Args) -> anyhow::Result<(String, Conclusion)> {
    let is_named = |plant: &&Plant| {
        args.plants.is_empty() || args.plants.iter().any(|name| name == plant.name)
    };
    let mut table = String::from("plant                           caught  by, and after\n");
    let (mut is_all, mut is_any_run) = (true, false);
    for plant in PLANTS.iter().filter(is_named) {
        let Catch { name, is_caught, is_skipped, words } = one(args, plant)?;
        let word = match (is_caught, is_skipped) {
            (true, _) => "yes",
            (false, true) => "skipped",
            (false, false) => "NO",
        };
        is_any_run |= !is_skipped;
        table.push_str(&format!("{name:<32}{word:<8}{words}\n"));
        is_all &= is_caught;
    }
    let conclusion = match (is_any_run, is_all) {
        (false, _) => Conclusion::Skipped,
        (true, true) => Conclusion::Pass,
        (true, false) => Conclusion::Invalid,
    };
    Ok((table, conclusion))
}

fn one(args: &Args, plant: &Plant) -> anyhow::Result<Catch> {
    let own = std::env::current_exe().context("find this program")?;
    let out = args.out.join(plant.name);
    let seconds = args.seconds.unwrap_or(plant.seconds);
    let mut command = Command::new(own);
    command.args(["--plant", plant.name, "--expect-caught", "--nemesis", plant.nemesis]);
    command.args(["--workload", plant.workloads, "--seconds", &seconds.to_string()]);
    command.args(["--seed", &args.seed.to_string(), "--nodes", &args.nodes.to_string()]);
    command.args(["--log-level", &args.log_level, "--rate", &args.rate.to_string()]);
    command.args(["--log-mib", &args.log_mib.to_string()]);
    command.arg("--binary").arg(&args.binary).arg("--out").arg(&out);
    if !args.known.is_empty() {
        command.args(["--known", &args.known.join(",")]);
    }
    let status = command.status().context("start a run")?;
    let words = words(&out.join("results.json")).unwrap_or_else(|error| format!("{error:#}"));
    let is_skipped = status.code() == Some(i32::from(Conclusion::Skipped.exit_code()));
    Ok(Catch { name: plant.name, is_caught: status.success(), is_skipped, words })
}

fn words(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).context("read the results")?;
    let results: Value = serde_json::from_str(&text)?;
    let verdict = results["verdict"].as_str().unwrap_or("no verdict");
    let by = results["detected_by"].as_str().unwrap_or("nobody");
    let after = results["seconds_to_detect"].as_f64();
    let after = after.map_or("-".to_owned(), |after| format!("{after:.1} s"));
    Ok(format!("{by}, {after} ({verdict})"))
}

#[cfg(test)]
mod tests {
    use alluvium_world::Mode;

    use super::*;
    use crate::workloads::Workload;

    #[test]
    fn every_plant_has_workloads_and_faults_that_there_are() {
        for plant in &PLANTS {
            assert!(Workload::parse_list(plant.workloads).is_ok_and(|list| !list.is_empty()));
            let modes = match plant.nemesis {
                "none" => Vec::new(),
                list => Mode::parse_list(list).expect(plant.name),
            };
            assert_eq!(modes.is_empty(), plant.nemesis == "none", "{}", plant.name);
        }
    }
}
