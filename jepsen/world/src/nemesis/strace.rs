//! `strace`: system calls of a node that the kernel is not asked for, or is asked for later, by `strace -e inject`.
//!
//! Nothing of the node knows of it, not even its C library. Must not trace anything but a node of this world. Invariant:
//! what counts is what strace wrote down of calls that it changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::calls::{After, MUST_END};
use super::{Done, Undo, Undone};
use crate::command::{Line, end_of, find, sleep};
use crate::error::Error;
use crate::fault::Observation;
use crate::mode::Mode;
use crate::world::{NodeId, World};
use crate::{limits, sys};

const PROGRAM: &str = "strace";
const SYNCS: &str = "fdatasync,fsync";
const WRITES: &str = "write,writev,pwrite64,pwritev,pwritev2";
/// How much later each sync begins.
const DELAY_US: &str = "300000";
/// Up to which write a node is killed at.
const WRITES_MAX: u64 = 12;
/// Segments that may come while a fault is in place.
const SEGMENTS_AHEAD: u64 = 16;

/// What is done to which calls, how strace marks it, and what is to come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    is_leader: bool,
    calls: &'static str,
    fault: String,
    mark: &'static str,
    after: After,
}

fn plan(mode: Mode, nth: u64) -> Plan {
    let of = |is_leader, calls, fault: &str, mark, after| {
        let fault = fault.to_owned();
        Plan { is_leader, calls, fault, mark, after }
    };
    let delay = format!("delay_enter={DELAY_US}");
    let kill = format!("signal=KILL:when={nth}");
    match mode {
        Mode::StraceSyncError => of(true, SYNCS, "error=EIO:when=1", "(INJECTED)", MUST_END),
        Mode::StraceSyncLie => of(false, SYNCS, "retval=0", "(INJECTED)", After::Lied),
        Mode::StraceSyncDelay => of(false, SYNCS, &delay, "(DELAYED)", After::MustGoOn),
        Mode::StraceWriteKill => of(true, WRITES, &kill, "= ?", After::IsCut),
        _ => of(true, WRITES, "error=EIO:when=1", "(INJECTED)", MUST_END),
    }
}

/// A strace that is attached to a node; it lets go when it is dropped.
#[derive(Debug)]
pub(crate) struct Tracer {
    child: Child,
    out: PathBuf,
    errors: PathBuf,
    mark: &'static str,
}

impl Tracer {
    /// Returns how many calls were changed, and the first of them.
    fn changed(&self) -> (usize, String) {
        marked(&fs::read_to_string(&self.out).unwrap_or_default(), self.mark)
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Lets the node go. A signal that strace can catch, so that nobody stays stopped.
    fn detach(&mut self) {
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            for _ in 0..100 {
                if self.has_ended() {
                    return;
                }
                drop(sys::signal(self.child.id(), signal));
                sleep(limits::LOOK);
            }
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.detach();
    }
}

fn marked(text: &str, mark: &str) -> (usize, String) {
    let mut lines = text.lines().filter(|line| line.trim_end().ends_with(mark));
    let first = lines.next().unwrap_or_default().to_owned();
    (lines.count() + usize::from(!first.is_empty()), first)
}

/// Returns the names that the segments after the newest one will have.
fn names_ahead(newest: &Path) -> Vec<PathBuf> {
    let (Some(stem), Some(extension)) = (newest.file_stem(), newest.extension()) else {
        return Vec::new();
    };
    let (stem, extension) = (stem.to_string_lossy(), extension.to_string_lossy());
    let Some((prefix, digits)) = stem.rsplit_once('-') else { return Vec::new() };
    let Ok(number) = digits.parse::<u64>() else { return Vec::new() };
    let width = digits.len();
    let name =
        |number: u64| newest.with_file_name(format!("{prefix}-{number:0width$}.{extension}"));
    (number + 1..=number + SEGMENTS_AHEAD).map(name).collect()
}

/// Says why this machine cannot trace; nothing when it can.
fn missing() -> Option<String> {
    if find(PROGRAM).is_none() {
        return Some("no strace: apt-get install strace".to_owned());
    }
    let trial = Line::of(&[PROGRAM, "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]);
    trial.run(limits::COMMAND).err().map(|error| format!("strace may not trace: {error}"))
}

impl World {
    pub(super) fn install_strace(&mut self, mode: Mode) -> Result<Done, Error> {
        if let Some(reason) = missing() {
            return Err(Error::NotOffered { mode, reason });
        }
        let plan = plan(mode, 1 + self.prng.below(WRITES_MAX));
        let node = self.target(mode, plan.is_leader)?;
        let mut tracer = self.attach(mode, node, &plan)?;
        let begun = self.now();
        while tracer.changed().0 == 0 && self.now().saturating_sub(begun) < limits::EFFECT {
            sleep(limits::LOOK);
        }
        let observation = observe_trace(&tracer);
        // A call was changed, once: the node must not be slower than it is while it ends.
        if observation.is_observed() && plan.after == MUST_END {
            tracer.detach();
        }
        let (reaction, after) = self.react(node, observation.is_observed(), plan.after);
        Ok(Done {
            nodes: vec![node],
            detail: format!(
                "{} of segments of {node}: {}, per thread{reaction}",
                plan.calls, plan.fault
            ),
            observation,
            undo: Undo::Trace { node, tracer, after },
        })
    }

    fn attach(&mut self, mode: Mode, node: NodeId, plan: &Plan) -> Result<Tracer, Error> {
        let mut segments = self.segment_paths(node)?;
        let ahead = segments.last().map(|newest| names_ahead(newest)).unwrap_or_default();
        segments.extend(ahead);
        let pid = self.node_mut(node).running("a trace")?.pid();
        let logs = self.config.scratch.join("logs");
        let name = format!("{node}-strace-{}", self.next_fault);
        let (out, errors) =
            (logs.join(format!("{name}.calls")), logs.join(format!("{name}.errors")));
        let stderr =
            File::create(&errors).map_err(Error::io(format!("make {}", errors.display())))?;
        let mut command = Command::new(PROGRAM);
        command.args(["-f", "-y", "-s", "0", "-e", "signal=none", "-p", &pid.to_string()]);
        command.arg("-e").arg(format!("trace={}", plan.calls));
        command.arg("-e").arg(format!("inject={}:{}", plan.calls, plan.fault));
        command.arg("-o").arg(&out);
        for segment in segments {
            command.arg("-P").arg(segment);
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let child = spawned.map_err(Error::io("start strace"))?;
        let mut tracer = Tracer { child, out, errors, mark: plan.mark };
        let begun = self.now();
        while !is_traced(pid) {
            if tracer.has_ended() || self.now().saturating_sub(begun) > limits::EFFECT {
                let said = end_of(&fs::read_to_string(&tracer.errors).unwrap_or_default());
                let reason = format!("strace was not let to attach: {said}");
                return Err(Error::NotOffered { mode, reason });
            }
            sleep(Duration::from_millis(5));
        }
        Ok(tracer)
    }

    pub(super) fn undo_trace(
        &mut self,
        node: NodeId,
        mut tracer: Tracer,
        after: After,
    ) -> Result<Undone, Error> {
        // A lie must last until the power is gone: the next honest sync would write everything.
        if after != After::Lied {
            tracer.detach();
        }
        let is_caught = tracer.changed().0 > 0;
        self.settle(node, is_caught, after)
    }
}

pub(super) fn observe_trace(tracer: &Tracer) -> Observation {
    let (times, first) = tracer.changed();
    Observation::of(times > 0, format!("strace changed {times} calls, the first: {first}"))
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_strace_changed_count() {
        let text = "\
2787  fdatasync(3</n/wal/segment-1.wal>)  = -1 EIO (Input/output error) (INJECTED)
2787  fdatasync(3</n/wal/segment-1.wal>)  = 0
2788  fdatasync(3</n/wal/segment-1.wal>)  = 0 (DELAYED)
2789  writev(3</n/wal/segment-1.wal>, [{iov_base=\"\"..., iov_len=192}], 1) = ?
2789  +++ killed by SIGKILL +++
";
        let times = |mark| marked(text, mark).0;
        assert_eq!(["(INJECTED)", "(DELAYED)", "= ?", "(OTHER)"].map(times), [1, 1, 1, 0]);
        assert!(marked(text, "(INJECTED)").1.starts_with("2787"));
        assert_eq!(marked("", "= ?"), (0, String::new()));
    }

    #[test]
    fn the_next_segments_have_the_next_numbers() {
        let ahead = names_ahead(Path::new("/n/wal/segment-0000000099.wal"));
        assert_eq!(ahead.first(), Some(&PathBuf::from("/n/wal/segment-0000000100.wal")));
        assert_eq!(ahead.len(), 16);
        assert!(names_ahead(Path::new("/n/wal/other.wal")).is_empty());
    }

    #[test]
    fn a_call_is_changed_once_where_a_node_must_end_by_it() {
        for mode in crate::Family::Strace.modes() {
            let plan = plan(*mode, 5);
            assert_eq!(plan.after == MUST_END, plan.fault == "error=EIO:when=1", "{mode}");
        }
        assert_eq!(plan(Mode::StraceWriteKill, 5).fault, "signal=KILL:when=5");
    }
}
