//! A run from its boot to its verdict, phase by phase.
//!
//! It must not judge histories. Invariant: whatever happens in a phase, the faults are healed, the clients are dismissed
//! and what they recorded is judged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_checker::NodeId;
use alluvium_stdx::{Clock, SystemClock};
use alluvium_world::{Disks, Error, Family, Inside, Mode, World, WorldConfig};
use anyhow::Context as _;

use crate::args::Args;
use crate::client::Address;
use crate::judge;
use crate::limits::{CONVERGE_LIMIT, DIGEST_LIMIT, PROOF_LIMIT, QUIET};
use crate::nemesis::{self, Bounds, Deeds, chain, pause};
use crate::report::Report;
use crate::schedule;
use crate::stage::Sharing;
use crate::troupe::{Casting, Record, Reviews, Troupe};
use crate::verdict::{Finding, Findings};
use crate::witness::Witness;

/// Bytes of a node's disk, in MiB: a run of some minutes, and room for what a fault leaves.
const DISK_MIB: u64 = 768;
/// More places where members may change.
const SPARES: u8 = 2;

/// The names of what a run leaves in its directory, beside histories.
const WORLD: &str = "world";
const PROGRAM: &str = "program";
const FILES: [&str; 4] = [PROGRAM, "results.json", "timeline.html", "questions.json"];

/// What a run goes through.
pub(crate) struct Run {
    pub(crate) args: Args,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) report: Report,
}

impl Run {
    pub(crate) fn new(mut args: Args) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&args.out).context("make the directory for results")?;
        clear(&args.out)?;
        if args.connect.is_empty() {
            args.binary = pinned(&args.binary, &args.out.join(PROGRAM))?;
        }
        let clock = Arc::new(SystemClock::new());
        let report = Report::new(&args);
        Ok(Self { args, clock, report })
    }

    fn phase(&mut self, name: &str) {
        let at_ns = self.clock.monotonic_ns();
        self.report.begin_phase(name, at_ns);
    }

    fn casting(&self, addresses: Vec<Address>, sharing: Sharing) -> Casting {
        Casting {
            addresses,
            workloads: self.args.workload.0.clone(),
            clients: self.args.clients,
            rate: self.args.rate,
            seed: self.args.seed,
            sharing,
            clock: Arc::clone(&self.clock),
        }
    }

    /// Works on a cluster that runs already.
    pub(crate) fn beside(&mut self) -> anyhow::Result<()> {
        let address =
            |(url, node): (&String, u64)| Address { node: NodeId(node), url: url.clone() };
        let addresses: Vec<Address> = self.args.connect.iter().zip(1..).map(address).collect();
        let nodes: Vec<u64> = addresses.iter().map(|address| address.node.0).collect();
        let troupe = Troupe::gather(self.casting(addresses, Sharing::None))?;
        self.phase("clients");
        troupe.play()?;
        pause(self.args.time());
        troupe.stop()?;
        self.phase("final calls");
        self.reviews("final calls", troupe.prove(PROOF_LIMIT, nodes.clone())?);
        self.reviews("final reads", troupe.sweep(nodes.clone())?);
        self.report.doubts("log", troupe.resolve(nodes)?);
        self.phase("judges");
        self.judge(troupe.dismiss()?);
        Ok(())
    }

    /// Works in a world of its own.
    pub(crate) fn inside(&mut self, inside: &Inside) -> anyhow::Result<()> {
        self.phase("boot");
        let mut world = match self.build(inside) {
            Ok(world) => world,
            Err(error) => {
                self.report.findings.push(unbuilt(&error));
                return Ok(());
            }
        };
        if let Err(error) = world.boot() {
            self.report.findings.push(unbuilt(&error));
            self.report.happened(&world);
            return self.close(world);
        }
        let sharing = self.sharing(&world);
        let troupe = Troupe::gather(self.casting(self.addresses(&world), sharing))?;
        let outcome = self.acts(&mut world, &troupe);
        if let Err(error) = outcome {
            self.report.findings.push(Finding::doubt("harness", format!("{error:#}")));
        }
        let record = troupe.dismiss()?;
        self.offline(&mut world);
        self.report.happened(&world);
        self.phase("judges");
        self.judge(record);
        self.close(world)
    }

    fn build(&self, inside: &Inside) -> Result<World, Error> {
        let plant = self.args.plant.iter();
        let is_growing = self.uses(Family::Membership);
        // Only who needs them gets them: other runs stay as they are.
        let are_served = self.args.nemesis.0.iter().any(|mode| mode.needs_served_disks());
        let config = WorldConfig {
            disks: if are_served { Disks::Served } else { Disks::Plain },
            nodes: self.args.nodes,
            spares: if is_growing { SPARES } else { 0 },
            seed: self.args.seed,
            binary: absolute(&self.args.binary),
            previous: self.args.previous.as_deref().map(absolute),
            scratch: absolute(&self.args.out).join(WORLD),
            disk_mib: DISK_MIB,
            log_mib: self.args.log_mib,
            shared_bucket: self.uses(Family::Objstore),
            env: plant.map(|name| ("ALLUVIUM_PLANT".to_owned(), name.clone())).collect(),
            log_level: self.args.log_level.clone(),
            clock: Arc::clone(&self.clock),
        };
        World::build(config, inside)
    }

    fn uses(&self, family: Family) -> bool {
        self.args.nemesis.0.iter().any(|mode| mode.family() == family)
    }

    /// Puts every second dataset into the shared bucket. With even seeds all of them, where nothing but the store is to
    /// fail: other faults need files on the members' own disks.
    fn sharing(&self, world: &World) -> Sharing {
        let is_alone = self.args.nemesis.0.iter().all(|mode| mode.family() == Family::Objstore);
        match world.shared_bucket() {
            None => Sharing::None,
            Some(bucket) if is_alone && self.args.seed.is_multiple_of(2) => Sharing::All(bucket),
            Some(bucket) => Sharing::Half(bucket, self.args.seed),
        }
    }

    fn addresses(&self, world: &World) -> Vec<Address> {
        let address = |node: alluvium_world::NodeId| Address {
            node: NodeId(u64::from(node.0)),
            url: world.client_url(node),
        };
        world.places().into_iter().map(address).collect()
    }

    /// Faults, healing, the last calls, and the power cut of all nodes.
    fn acts(&mut self, world: &mut World, troupe: &Troupe) -> anyhow::Result<()> {
        self.phase("clients and faults");
        self.report.start_ns = self.clock.monotonic_ns();
        troupe.play()?;
        let deeds = self.nemesis(world);
        self.report.take(deeds, &self.args);
        self.phase("healing");
        let is_whole = self.heal(world);
        pause(QUIET);
        troupe.stop()?;
        if is_whole {
            self.finale(world, troupe)?;
            self.phase("power cut of all");
            if self.cut_all(world) {
                self.finale(world, troupe)?;
            }
        }
        self.report.doubts("log", troupe.resolve(members(world))?);
        Ok(())
    }

    fn nemesis(&self, world: &mut World) -> Deeds {
        let modes: &[Mode] = &self.args.nemesis.0;
        if modes.is_empty() {
            pause(self.args.time());
            return Deeds::default();
        }
        let end_ns = nemesis::after(&self.clock, self.args.time());
        let acts = schedule::plan(modes, self.args.time(), self.args.seed);
        nemesis::perform(world, &acts, &Bounds { clock: &self.clock, end_ns })
    }

    fn heal(&mut self, world: &mut World) -> bool {
        if let Err(error) = world.heal_everything() {
            self.fault("heal everything", &error);
        }
        match world.converge(CONVERGE_LIMIT) {
            Ok(convergence) => {
                self.report.converged = Some(convergence.took);
                // What a fault did to a node was mended before: nothing is broken any more.
                let ended = convergence.restarted.iter();
                let ended = ended.map(|node| format!("{node} ended by itself while all was well"));
                self.reviews("crashes", ended.collect());
                true
            }
            Err(error) => {
                self.fault("converge", &error);
                false
            }
        }
    }

    /// Last calls through every member must succeed, last reads too, and the replicas must be equal.
    fn finale(&mut self, world: &mut World, troupe: &Troupe) -> anyhow::Result<()> {
        self.phase("final calls");
        let members = members(world);
        self.reviews("final calls", troupe.prove(PROOF_LIMIT, members.clone())?);
        self.reviews("final reads", troupe.sweep(members)?);
        self.phase("digests");
        self.digests(world);
        Ok(())
    }

    fn cut_all(&mut self, world: &mut World) -> bool {
        let members = world.node_ids();
        if let Err(error) = world.power_cut(&members) {
            self.fault("power cut", &error);
            return false;
        }
        for node in members {
            if let Err(error) = world.start(node) {
                self.fault("start after the power cut", &error);
            }
        }
        self.heal(world)
    }

    /// Asks until all members are at one index.
    fn digests(&mut self, world: &mut World) {
        let end_ns = nemesis::after(&self.clock, DIGEST_LIMIT);
        loop {
            let digests = match world.digests() {
                Ok(digests) => digests,
                Err(error) => return self.fault("digests", &error),
            };
            let first = digests.first().map(|one| (one.applied, one.digest.clone()));
            let is_level =
                digests.iter().all(|one| Some(one.applied) == first.as_ref().map(|f| f.0));
            let is_whole = digests.len() == world.node_ids().len();
            if is_level && is_whole {
                return self.report.compare(&digests);
            }
            if self.clock.monotonic_ns() >= end_ns {
                let detail = format!("the members do not come to one index: {digests:?}");
                return self.report.findings.push(Finding::doubt("digests", detail));
            }
            pause(Duration::from_millis(500));
        }
    }

    /// Stops the nodes and reads their disks and logs.
    fn offline(&mut self, world: &mut World) {
        self.phase("stop and scrub");
        if let Err(error) = world.stop_all() {
            self.fault("stop", &error);
        }
        match world.scrub_offline() {
            Ok(scrubs) => self.report.scrubbed(&scrubs),
            Err(error) => self.fault("scrub", &error),
        }
        if let Some(bucket) = world.bucket_report() {
            self.report.stored(&bucket);
        }
        match world.unexpected_log_lines() {
            Ok(lines) => self.report.logged(&lines),
            Err(error) => self.fault("read the logs", &error),
        }
    }

    fn judge(&mut self, record: Record) {
        let findings = judge::judge(&record, &self.clock);
        self.report.findings.extend(findings);
        self.report.recorded(record, &self.args);
        let at_ns = self.clock.monotonic_ns();
        self.report.begin_phase("end", at_ns);
    }

    fn close(&mut self, world: World) -> anyhow::Result<()> {
        if let Err(error) = world.close() {
            self.report.findings.push(Finding::doubt("world", chain(&error)));
        }
        Ok(())
    }

    /// What did not succeed though everything was healed: availability is promised then.
    fn reviews(&mut self, phase: &str, reviews: Reviews) {
        let found = reviews.into_iter().map(|why| Finding::anomaly(phase, why, None));
        self.report.findings.extend(found.collect::<Findings>());
    }

    fn fault(&mut self, phase: &str, error: &Error) {
        self.report.findings.push(nemesis::of_world(phase, error));
    }
}

fn unbuilt(error: &Error) -> Finding {
    let detail = chain(error);
    match error.is_skip() {
        true => Finding::skip("world", detail),
        false => Finding::doubt("boot", detail),
    }
}

/// Removes what an earlier run left in its directory, and nothing else.
fn clear(out: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(out).context("read the directory for results")? {
        let path = entry.context("read the directory for results")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_history = name.starts_with("history-");
        if name == WORLD {
            std::fs::remove_dir_all(&path).context("remove the world of an earlier run")?;
        } else if is_history || FILES.contains(&name.as_ref()) {
            std::fs::remove_file(&path).context("remove the results of an earlier run")?;
        }
    }
    Ok(())
}

/// Removes what only somebody who looks for a bug needs: disks and the program.
pub(crate) fn tidy_up(out: &Path) -> anyhow::Result<()> {
    let world = out.join(WORLD);
    if world.is_dir() {
        std::fs::remove_dir_all(world).context("remove the world")?;
    }
    let program = out.join(PROGRAM);
    if program.is_file() {
        std::fs::remove_file(program).context("remove the program")?;
    }
    Ok(())
}

/// Keeps the program as it is now: one that is built anew during a run would start beside the old one.
fn pinned(program: &Path, at: &Path) -> anyhow::Result<PathBuf> {
    std::fs::copy(program, at).with_context(|| format!("copy {}", program.display()))?;
    Ok(at.to_path_buf())
}

fn members(world: &World) -> Vec<u64> {
    world.node_ids().iter().map(|node| u64::from(node.0)).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_no_current_directory| path.to_path_buf())
}

/// The first and the last entry of the log that was read.
pub(crate) fn log_span(record: &Record) -> Option<(u64, u64)> {
    record.witness.as_ref().and_then(Witness::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_left_is_removed_and_nothing_else() {
        let out = tempfile::tempdir().expect("a directory");
        let names = ["history-w5-0001.edn", "results.json", "program", "notes.txt"];
        for name in names {
            std::fs::File::create(out.path().join(name)).expect("a file");
        }
        std::fs::create_dir_all(out.path().join("world/n1")).expect("a directory");
        clear(out.path()).expect("it can be removed");
        let left = std::fs::read_dir(out.path()).expect("it is there");
        let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
    }
}
