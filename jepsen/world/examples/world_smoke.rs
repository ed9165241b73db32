//! Boots a cluster of the real program, goes through faults one after the other, and prints what became of each.
//!
//! A first look, not a proof: the only load is one append at a time, and nobody judges a history. Usage:
//! `world_smoke binary=PATH scratch=DIR modes=LIST seed=N nodes=N previous=PATH rounds=N`, with the list as
//! [`Mode::parse_list`] reads it. With rounds, each has two faults of the list by chance, one upon the other.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alluvium_stdx::{Prng, SystemClock, spawn};
use alluvium_world::{Disks, Error, Mode, World, WorldConfig, enter};

/// How long a fault is in place.
const IN_PLACE: Duration = Duration::from_secs(4);
/// How long the cluster has to come together.
const CONVERGE: Duration = Duration::from_secs(60);

fn say(line: &str) {
    // Nobody reads: then there is nobody to tell.
    drop(writeln!(std::io::stdout(), "{line}"));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let inside = match enter() {
        Ok(inside) => inside,
        Err(error) if error.is_skip() => {
            say(&format!("SKIPPED: {error}"));
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            say(&format!("UNKNOWN: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let given = |key: &str| {
        arguments.iter().find_map(|one| one.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    };
    let argument = |key: &str, default: &str| given(key).unwrap_or_else(|| default.to_owned());
    let number =
        |key: &str, default: u64| given(key).and_then(|one| one.parse().ok()).unwrap_or(default);
    let clock = Arc::new(SystemClock::new());
    let modes = Mode::parse_list(&argument("modes", "all"));
    let is_served = |modes: &Vec<Mode>| modes.iter().any(|mode| mode.needs_served_disks());
    let are_served = modes.as_ref().is_ok_and(is_served);
    let config = WorldConfig {
        disks: if are_served { Disks::Served } else { Disks::Plain },
        nodes: u8::try_from(number("nodes", 3)).unwrap_or(3),
        spares: 1,
        seed: number("seed", 1),
        binary: PathBuf::from(argument("binary", "alluvium")),
        previous: given("previous").map(PathBuf::from),
        scratch: PathBuf::from(argument("scratch", "/tmp/world-smoke")),
        disk_mib: number("disk", 768),
        log_mib: 4,
        // The load is in the nodes' own buckets, so that nobody would meet a fault of this one.
        shared_bucket: false,
        env: Vec::new(),
        log_level: "info,openraft=error".to_owned(),
        clock: Arc::clone(&clock),
    };
    let (binary, rounds, seed) = (config.binary.clone(), number("rounds", 0), config.seed);
    let done = modes.and_then(|modes| {
        let mut world = World::build(config, &inside)?;
        let outcome = run(&mut world, &modes, &binary, (rounds, seed));
        for happening in world.happenings() {
            let at = Duration::from_nanos(happening.at_ns);
            let node = happening.node.map(|node| node.to_string()).unwrap_or_default();
            say(&format!("{:>9.3} {node:3} {}", at.as_secs_f64(), happening.what));
        }
        outcome.and(world.close())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAILED: {error:?}"));
            ExitCode::FAILURE
        }
    }
}

fn run(
    world: &mut World,
    modes: &[Mode],
    binary: &Path,
    (rounds, seed): (u64, u64),
) -> Result<(), Error> {
    world.boot()?;
    let load = Load::start(world, binary);
    pause(IN_PLACE);
    let mut prng = Prng::from_seed(seed);
    for round in 0..rounds {
        let pair = [prng.pick(modes).copied(), prng.pick(modes).copied()];
        two(world, round, pair)?;
    }
    for mode in modes.iter().filter(|_| rounds == 0) {
        if let Err(error) = one(world, *mode) {
            say(&format!("{mode:28} FAILED: {error}"));
            world.heal_everything()?;
            world.converge(CONVERGE)?;
        }
    }
    load.stop();
    world.converge(CONVERGE)?;
    for digest in world.digests()? {
        say(&format!("{digest:?}"));
    }
    let everybody = world.node_ids();
    world.power_cut(&everybody)?;
    let converged = world.converge(CONVERGE)?;
    say(&format!("after a power cut of all: {converged:?}"));
    for digest in world.digests()? {
        say(&format!("{digest:?}"));
    }
    world.stop_all()?;
    for scrub in world.scrub_offline()? {
        say(&format!("{scrub:?}"));
    }
    for line in world.unexpected_log_lines()? {
        say(&format!("unexpected: {} {}: {}", line.file.display(), line.line, line.text));
    }
    Ok(())
}

/// Installs a fault upon another, heals both, waits until the cluster stands again.
fn two(world: &mut World, round: u64, pair: [Option<Mode>; 2]) -> Result<(), Error> {
    for mode in pair.into_iter().flatten() {
        match world.install(mode) {
            Ok(installed) => say(&format!("{round:4} {mode:28} {}", installed.detail)),
            Err(error) if error.is_skip() => say(&format!("{round:4} {mode:28} skipped: {error}")),
            Err(error) => return Err(error),
        }
        pause(IN_PLACE / 2);
    }
    for healed in world.heal_everything()? {
        say(&format!("{round:4} {:28} {} {:?}", healed.mode, healed.observation, healed.broken));
    }
    let converged = world.converge(CONVERGE)?;
    say(&format!("{round:4} {converged:?}"));
    compare(world)
}

/// Says when two nodes differ at the same index.
fn compare(world: &mut World) -> Result<(), Error> {
    let digests = world.digests()?;
    let differ = digests.iter().any(|one| {
        digests.iter().any(|two| one.applied == two.applied && one.digest != two.digest)
    });
    if differ {
        say(&format!("DIGESTS DIFFER: {digests:?}"));
    }
    Ok(())
}

/// Installs a fault, heals it, waits until the cluster stands again.
fn one(world: &mut World, mode: Mode) -> Result<(), Error> {
    let installed = match world.install(mode) {
        Ok(installed) => installed,
        Err(error) if error.is_skip() => {
            say(&format!("{mode:28} SKIPPED: {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    pause(IN_PLACE);
    let healed = world.heal(&installed)?;
    let converged = world.converge(CONVERGE)?;
    say(&format!("{mode:28} {}", healed.observation));
    say(&format!("{:28}   did: {}", "", installed.detail));
    say(&format!("{:28}   healed: {} {:?}", "", healed.detail, healed.broken));
    say(&format!("{:28}   converged: {converged:?}", ""));
    compare(world)
}

fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a program of its own, with nothing else to do")]
    std::thread::sleep(time);
}

/// Appends a few rows again and again, so that faults have something to hit.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(world: &World, binary: &Path) -> Self {
        let urls: Vec<String> =
            world.node_ids().into_iter().map(|node| world.client_url(node)).collect();
        let (stop, binary) = (Arc::new(AtomicBool::new(false)), binary.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = spawn::thread("load", move || {
            let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
            let alluvium = |words: &[&str], input: &str| {
                let mut command = Command::new("sh");
                command.args(["-c", "printf \"$0\" | \"$@\"", input]).arg(&binary).args(words);
                command.args(["--statement-timeout", "4s"]);
                let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
                let is_ok = status.is_ok_and(|status| status.success());
                if is_ok { &done } else { &failed }.fetch_add(1, Ordering::Relaxed);
                is_ok
            };
            let first = urls.first().map_or("", String::as_str);
            let register = ["dataset", "register", "load", "--column", "id:int64", "--connect"];
            while !alluvium(&[&register[..], &[first]].concat(), "")
                && !stopped.load(Ordering::Relaxed)
            {}
            for (turn, url) in urls.iter().cycle().enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let append = ["append", "load", "-", "--format", "csv", "--connect", url];
                alluvium(&append, &format!("id\\n{turn}\\n"));
                if turn % 20 == 19 {
                    alluvium(&["seal", "load", "--connect", url], "");
                }
                pause(Duration::from_millis(100));
            }
            say(&format!("load: {done:?} calls done, {failed:?} failed"));
        });
        Self { stop, thread: thread.ok() }
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
