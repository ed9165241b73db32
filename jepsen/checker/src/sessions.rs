//! W6: a counter that each command of a session increments once, however often it is sent.
//!
//! The counter is bounded from below by what was acknowledged and by what was seen before, and from above by
//! what was ever sent. It must not count sends. Invariant: a command is one (session, sequence); its effect
//! lies between its first send and its first acknowledgement.

mod commands;

#[cfg(test)]
pub(crate) mod tests;

use crate::call::Reply;
use crate::history::{History, OpId};
use crate::verdict::{Anomaly, Doubt, Evidence, Verdict};

pub(crate) use commands::{Command, Commands};

const SUBJECT: &str = "counter";

/// A value of the counter that somebody was told.
#[derive(Debug, Clone, Copy)]
struct Sight {
    id: OpId,
    start: u64,
    end: u64,
    count: u64,
    /// An increment makes a number that nobody saw before.
    is_increment: bool,
}

/// Judges the increments and counts of `history`.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let commands = Commands::of(history);
    let reads = counts(history);
    if commands.all.is_empty() && reads.is_empty() {
        return Verdict::Unknown(Doubt::Empty);
    }
    let mut sights = reads.clone();
    sights.extend(commands.all.values().filter_map(sight));
    let mut evidence = different_replies(&commands);
    evidence.extend(bounds(&commands, &sights));
    evidence.extend(order(&sights));
    evidence.extend(shared_numbers(&sights));
    let last = commands.all.values().filter_map(|command| command.acked_ns).max();
    let is_final = |read: &Sight| last.is_none_or(|last| last < read.start);
    if evidence.is_empty() && !reads.iter().any(is_final) {
        return Verdict::Unknown(Doubt::NoFinalRead);
    }
    Verdict::of(evidence)
}

fn counts(history: &History) -> Vec<Sight> {
    let seen = history.operations().iter().filter_map(|operation| {
        let (Reply::Counted { count }, _) = operation.answer()? else { return None };
        let (start, end) = (operation.invoked_ns, operation.settled_ns()?);
        Some(Sight { id: operation.id, start, end, count: *count, is_increment: false })
    });
    seen.collect()
}

fn sight(command: &Command) -> Option<Sight> {
    let answer = command.answers.first()?;
    let (start, end) = (command.sent_ns, command.acked_ns?);
    Some(Sight { id: answer.id, start, end, count: answer.count, is_increment: true })
}

fn different_replies(commands: &Commands) -> Vec<Evidence> {
    let mut found = Vec::new();
    for ((session, sequence), command) in &commands.all {
        let Some(first) = command.answers.first() else { continue };
        if let Some(other) = command.answers.iter().find(|answer| answer.count != first.count) {
            let subject = format!("session {session}, sequence {sequence}");
            let detail = format!("one answer is {}, another {}", first.count, other.count);
            let operations = [first.id, other.id];
            found.push(Evidence::new(Anomaly::DifferentReply, subject, operations, detail));
        }
    }
    found
}

/// The counter is at least what was acknowledged before, and at most what was sent until then.
fn bounds(commands: &Commands, sights: &[Sight]) -> Vec<Evidence> {
    let mut acked: Vec<u64> = commands.all.values().filter_map(|c| c.acked_ns).collect();
    let mut sent: Vec<u64> = commands.possible().map(|command| command.sent_ns).collect();
    acked.sort_unstable();
    sent.sort_unstable();
    let mut found = Vec::new();
    for sight in sights {
        let own = u64::from(sight.is_increment);
        let at_least = acked.partition_point(|end| *end < sight.start) as u64 + own;
        let at_most = sent.partition_point(|start| *start <= sight.end) as u64;
        if sight.count < at_least {
            let detail = format!("the counter is {}, and {at_least} were done", sight.count);
            found.push(Evidence::new(Anomaly::LostIncrement, SUBJECT, [sight.id], detail));
        }
        if sight.count > at_most {
            let detail = format!("the counter is {}, and {at_most} were sent", sight.count);
            found.push(Evidence::new(Anomaly::DoubleApply, SUBJECT, [sight.id], detail));
        }
    }
    found
}

/// The counter does not fall, and an increment makes it rise.
fn order(sights: &[Sight]) -> Vec<Evidence> {
    let mut by_end: Vec<&Sight> = sights.iter().collect();
    by_end.sort_by_key(|sight| sight.end);
    let mut by_start: Vec<&Sight> = sights.iter().collect();
    by_start.sort_by_key(|sight| sight.start);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<&Sight> = None;
    let mut found = Vec::new();
    for sight in by_start {
        while let Some(earlier) = ended.next_if(|earlier| earlier.end < sight.start) {
            highest = highest.filter(|best| best.count >= earlier.count).or(Some(earlier));
        }
        let own = u64::from(sight.is_increment);
        if let Some(earlier) = highest.filter(|best| best.count + own > sight.count) {
            let detail = format!("the counter was {}, and is {}", earlier.count, sight.count);
            let operations = [earlier.id, sight.id];
            found.push(Evidence::new(Anomaly::LostIncrement, SUBJECT, operations, detail));
        }
    }
    found
}

/// Two commands never make the counter the same number.
fn shared_numbers(sights: &[Sight]) -> Vec<Evidence> {
    let mut made: Vec<&Sight> = sights.iter().filter(|sight| sight.is_increment).collect();
    made.sort_by_key(|sight| (sight.count, sight.id));
    let pairs = made.iter().zip(made.iter().skip(1)).filter(|(one, next)| one.count == next.count);
    let describe = |(one, next): (&&Sight, &&Sight)| {
        let detail = format!("two commands made the counter {}", one.count);
        Evidence::new(Anomaly::LostIncrement, SUBJECT, [one.id, next.id], detail)
    };
    pairs.map(describe).collect()
}
