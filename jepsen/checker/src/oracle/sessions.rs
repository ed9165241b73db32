//! W6 in the order of the log: the counter is the number of acknowledged commands up to an index, and of
//! ambiguous ones that took effect until then.
//!
//! It must not count sends. Invariant: along the log, the number of ambiguous commands that took effect does not
//! fall.

use super::timeline::Timeline;
use crate::call::Reply;
use crate::history::{History, OpId};
use crate::sessions::Commands;
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

/// A value of the counter, at an index.
#[derive(Debug, Clone, Copy)]
struct Sight {
    index: u64,
    is_read: bool,
    id: OpId,
    count: u64,
}

/// Replays the increments and counts of `history`.
#[must_use]
pub fn sessions(history: &History) -> Verdict {
    let commands = Commands::of(history);
    let mut sights = sights(history, &commands);
    if sights.is_empty() {
        let is_empty = commands.all.is_empty();
        let doubt = if is_empty { Doubt::Empty } else { Doubt::NothingObserved };
        return Verdict::Unknown(doubt);
    }
    sights.sort_by_key(|sight| (sight.index, sight.is_read, sight.id));
    let timeline = Timeline::of(history);
    let ambiguous = commands.possible().filter(|command| command.answers.is_empty());
    let mut floors: Vec<u64> = ambiguous.map(|command| timeline.floor(command.first)).collect();
    floors.sort_unstable();
    let mut evidence = different(&commands);
    let (mut acked, mut unknown) = (0, 0);
    for sight in sights {
        acked += u64::from(!sight.is_read);
        let possible = floors.partition_point(|floor| *floor < sight.index) as u64;
        let (least, most) = (acked + unknown, acked + possible);
        if (least..=most).contains(&sight.count) {
            unknown = sight.count - acked;
            continue;
        }
        let detail = format!(
            "the counter is {} at index {}, not {least} to {most}",
            sight.count, sight.index
        );
        evidence.push(Evidence::new(Anomaly::WrongAtIndex, "counter", [sight.id], detail));
    }
    Verdict::of(evidence)
}

fn sights(history: &History, commands: &Commands) -> Vec<Sight> {
    let acked = commands.all.values().filter_map(|command| command.answers.first());
    let increments = acked.map(|answer| {
        let (index, count) = (answer.index.0, answer.count);
        Sight { index, is_read: false, id: answer.id, count }
    });
    let reads = history.operations().iter().filter_map(|operation| {
        let (Reply::Counted { count }, index) = operation.answer()? else { return None };
        Some(Sight { index: index.0, is_read: true, id: operation.id, count: *count })
    });
    increments.chain(reads).collect()
}

/// All sends of a command have one answer, and one index.
fn different(commands: &Commands) -> Vec<Evidence> {
    let mut found = Vec::new();
    for ((session, sequence), command) in &commands.all {
        let Some(first) = command.answers.first() else { continue };
        let same = (first.count, first.index);
        if let Some(other) = command.answers.iter().find(|a| (a.count, a.index) != same) {
            let subject = format!("session {session}, sequence {sequence}");
            let detail = format!("answers at index {} and {}", first.index.0, other.index.0);
            let operations = [first.id, other.id];
            found.push(Evidence::new(Anomaly::DifferentReply, subject, operations, detail));
        }
    }
    found
}
