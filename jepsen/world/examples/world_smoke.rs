//! Boots a cluster of the real program, goes through faults one after the other, and prints what became of each.
//!
//! A first look, not a proof: the only load is one append at a time, and nobody judges a history. Usage:
//! `world_smoke BINARY SCRATCH [MODES [SEED [NODES]]]`, with MODES as [`Mode::parse_list`] reads them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alluvium_stdx::{SystemClock, spawn};
use alluvium_world::{Error, Mode, World, WorldConfig, enter};

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
    let argument =
        |at: usize, default: &str| arguments.get(at).cloned().unwrap_or_else(|| default.to_owned());
    let clock = Arc::new(SystemClock::new());
    let config = WorldConfig {
        nodes: argument(4, "3").parse().unwrap_or(3),
        spares: 1,
        seed: argument(3, "1").parse().unwrap_or(1),
        binary: PathBuf::from(argument(0, "alluvium")),
        previous: None,
        scratch: PathBuf::from(argument(1, "/tmp/world-smoke")),
        disk_mib: 768,
        env: Vec::new(),
        log_level: "info,openraft=error".to_owned(),
        clock: Arc::clone(&clock),
    };
    let modes = Mode::parse_list(&argument(2, "all"));
    let binary = config.binary.clone();
    let done = modes.and_then(|modes| {
        let mut world = World::build(config, &inside)?;
        let outcome = run(&mut world, &modes, &binary);
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

fn run(world: &mut World, modes: &[Mode], binary: &Path) -> Result<(), Error> {
    world.boot()?;
    let load = Load::start(world, binary);
    pause(IN_PLACE);
    for mode in modes {
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
    let digests = world.digests()?;
    let differ = digests.iter().any(|one| {
        digests.iter().any(|two| one.applied == two.applied && one.digest != two.digest)
    });
    if differ {
        say(&format!("{mode:28} DIGESTS DIFFER: {digests:?}"));
    }
    Ok(())
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
