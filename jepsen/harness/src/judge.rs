//! What the checkers say of what was recorded.
//!
//! Each book is judged twice: from outside, and by the order of the log. It must not decide what the run as a whole
//! is: that is `verdict`. Invariant: a disagreement of the two, a budget that ran out, and a book that is not well
//! formed are doubts, never passes.

use alluvium_checker::bank::Bank;
use alluvium_checker::configs::{self, Config};
use alluvium_checker::linear::{Budget, Datasets, Model, Registers, Rows};
use alluvium_checker::oracle::{self, Agreement};
use alluvium_checker::{
    Action, Anomaly, Doubt, Event, Evidence, History, Outcome, Reply, Verdict, append, bank,
    linear, sessions, sets,
};
use alluvium_stdx::{Clock, SystemClock};

use crate::limits::{JUDGE_TIME, SEARCH_STEPS_MAX};
use crate::model;
use crate::outcome::{TORN, WRONG};
use crate::troupe::{Record, nanos};
use crate::verdict::{Finding, Findings};
use crate::witness;
use crate::workloads::{Workload, bank as bank_books, kind_of, lists, registers};

/// Judges everything.
pub(crate) fn judge(record: &Record, clock: &SystemClock) -> Findings {
    let end = clock.monotonic_ns().saturating_add(nanos(JUDGE_TIME));
    let budget = Budget { steps_max: SEARCH_STEPS_MAX, deadline: Some((clock, end)) };
    let mut findings = Findings::default();
    let log = record.witness.as_ref();
    let is_whole = log.is_some_and(|witness| witness.gap().is_none());
    for (book, history) in &record.histories {
        match history {
            // Only the log tells the order of what was appended blindly.
            Ok(history)
                if !is_whole
                    && kind_of(book) == lists::BLIND
                    && !history.operations().is_empty() =>
            {
                let detail = format!("{book}: the log has a gap, so no order is known");
                findings.extend([Finding::doubt("append", detail)]);
            }
            Ok(history) => findings.extend(judge_book(book, history, &budget)),
            Err(error) => findings.push(Finding::doubt("history", format!("{book}: {error}"))),
        }
    }
    findings.extend(order(record));
    findings.extend(answers(record));
    findings.extend(numbers(record));
    findings.extend(questions(record));
    findings.extend(testimony(record));
    findings.extend(members(record));
    findings
}

fn judge_book(book: &str, history: &History, budget: &Budget<'_>) -> Findings {
    if history.operations().is_empty() {
        return Findings::default();
    }
    let (checker, black_box, oracle) = opinions(book, history, budget);
    let agreement = match oracle {
        Some(oracle) => Agreement::of(black_box, oracle),
        None => Agreement::Agreed(black_box),
    };
    match agreement {
        Agreement::Agreed(verdict) => findings(book, checker, &verdict, history),
        Agreement::Undecided { black_box, oracle } => {
            findings(book, checker, &Verdict::merge([black_box, oracle]), history)
        }
        Agreement::Disagreed { black_box, oracle } => {
            disagreement(book, checker, history, (&black_box, &oracle))
        }
    }
}

/// The log's indexes may say why an answer that is wrong from outside is right at its index: then it was served at
/// an index that is too old, and the order of indexes is what is broken.
fn disagreement(
    book: &str,
    checker: &'static str,
    history: &History,
    (black_box, oracle): (&Verdict, &Verdict),
) -> Findings {
    if oracle.is_valid() && matches!(oracle::order(history), Verdict::Invalid(_)) {
        return findings(book, checker, black_box, history);
    }
    let detail = format!("{book}: from outside {black_box}; by the log {oracle}");
    [Finding::doubt("checkers disagree", detail)].into_iter().collect()
}

/// Returns the checker's name, what is seen from outside, and what the log's order says.
fn opinions(
    book: &str,
    history: &History,
    budget: &Budget<'_>,
) -> (&'static str, Verdict, Option<Verdict>) {
    let bank = Bank { initial: bank_books::initial() };
    match kind_of(book) {
        "w1" => {
            let (checker, black_box, _) = keyed("datasets", &Datasets, history, budget);
            let oracle = oracle::keyed(&Datasets, &without_absences(history), budget);
            (checker, black_box, Some(oracle))
        }
        lists::TRANSACTIONS | lists::BLIND => {
            ("append", append::check(history), Some(oracle::lists(history)))
        }
        "w3" => ("sets", sets::check(history).verdict, Some(oracle::sets(history))),
        bank_books::PREFIX => {
            let (_, linear, oracle) = keyed("bank", &bank, history, budget);
            ("bank", Verdict::merge([bank::check(&bank, history), linear]), oracle)
        }
        bank_books::TRAVEL => ("bank", bank::check(&bank, history), None),
        registers::REGISTERS => keyed("registers", &Registers, history, budget),
        registers::ROWS => keyed("rows", &Rows, history, budget),
        "w6" => ("sessions", sessions::check(history), Some(oracle::sessions(history))),
        _other => ("none", Verdict::Unknown(Doubt::Empty), None),
    }
}

/// A name that was dropped is gone from every index, so that a list of an index before the drop may lack it: the
/// answer is of a later index than it says, and right from outside alone.
fn without_absences(history: &History) -> History {
    let mut events = history.events().to_vec();
    for event in &mut events {
        if let Action::Complete { outcome } = &mut event.action
            && matches!(outcome, Outcome::Ok { reply: Reply::Described { dataset: None }, .. })
        {
            *outcome = Outcome::Fail;
        }
    }
    History::new(events).expect("another outcome keeps the order")
}

fn keyed<M: Model>(
    checker: &'static str,
    model: &M,
    history: &History,
    budget: &Budget<'_>,
) -> (&'static str, Verdict, Option<Verdict>) {
    let black_box = linear::check(model, history, budget);
    (checker, black_box, Some(oracle::keyed(model, history, budget)))
}

/// Turns a verdict into findings. A book without a single answer says nothing, and is no doubt: how many calls
/// must succeed is asked of the whole workload.
fn findings(book: &str, checker: &str, verdict: &Verdict, history: &History) -> Findings {
    match verdict {
        Verdict::Valid | Verdict::Unknown(Doubt::Empty | Doubt::NothingObserved) => {
            Findings::default()
        }
        Verdict::Unknown(doubt) => {
            [Finding::doubt(checker, format!("{book}: {doubt:?}"))].into_iter().collect()
        }
        Verdict::Invalid(evidence) => evidence
            .iter()
            .map(|one| Finding::anomaly(checker, format!("{book}: {one}"), shown_at(one, history)))
            .collect(),
    }
}

/// When the evidence was complete: with the last of the operations that contradict each other, or with the first
/// that has no place.
fn shown_at(evidence: &Evidence, history: &History) -> Option<u64> {
    let ends = evidence.operations.iter().filter_map(|id| history.operations().get(id.0));
    let ends = ends.filter_map(|operation| operation.completed_ns);
    match matches!(evidence.anomaly, Anomaly::NotLinearizable | Anomaly::WrongAtIndex) {
        true => ends.min(),
        false => ends.max(),
    }
}

/// The order of all indexes of all workloads: what began after another call ended is not before it.
fn order(record: &Record) -> Findings {
    let mut events: Vec<Event> = Vec::new();
    for (book, history) in &record.histories {
        if let (Ok(history), false) = (history, book.starts_with(bank_books::TRAVEL)) {
            events.extend(history.events().iter().cloned());
        }
    }
    events.sort_by_key(|event| event.time_ns);
    match History::new(events) {
        Ok(history) => findings("all books", "index order", &oracle::order(&history), &history),
        Err(error) => [Finding::doubt("index order", error.to_string())].into_iter().collect(),
    }
}

/// Answers that no right store gives, such as two rows of one key.
fn answers(record: &Record) -> Findings {
    let mut found = Findings::new();
    for trace in &record.traces {
        let (source, what) = match trace.reason.as_deref() {
            Some(WRONG) => ("answers", "gave an impossible answer"),
            Some(TORN) => ("torn-description", "said of an index what came later"),
            Some(_) | None => continue,
        };
        let detail = format!("{}: node {} {what}", trace.book, trace.node);
        found.push(Finding::anomaly(source, detail, Some(trace.end_ns)));
    }
    found
}

/// Numbers of sessions that were accepted a second time for something else.
fn numbers(record: &Record) -> Findings {
    let mut found: Findings = record
        .accepted
        .iter()
        .map(|misuse| {
            let detail = format!(
                "node {} took number {} of session {} a second time for another row, at index {}",
                misuse.node, misuse.sequence, misuse.session, misuse.index
            );
            Finding::anomaly("session numbers", detail, Some(misuse.at_ns))
        })
        .collect();
    if record.unresolved > 0 {
        let detail = format!("the counter at {} indexes cannot be read", record.unresolved);
        found.push(Finding::doubt("sessions", detail));
    }
    found
}

/// Questions as of an index, against each other and the log.
fn questions(record: &Record) -> Findings {
    if record.asked.is_empty() {
        return Findings::default();
    }
    let Some(witness) = &record.witness else {
        let detail = "no log can be read, so no answer can be compared".to_owned();
        return [Finding::doubt("questions", detail)].into_iter().collect();
    };
    if let Some(gap) = witness.gap() {
        let detail = format!("the log was not read at {gap}, and is purged there");
        return [Finding::doubt("questions", detail)].into_iter().collect();
    }
    let model = model::Model::of(&record.changes, &witness.places());
    let differences = model::compare(&model, &record.asked);
    let name = |workload: Workload| workload.title();
    differences
        .into_iter()
        .map(|difference| {
            let asked = &record.asked[difference.asked];
            Finding::anomaly(name(asked.workload), difference.detail, Some(asked.end_ns))
        })
        .collect()
}

/// Acknowledged writes that are not where the log has them, and entries that nodes have in two ways.
fn testimony(record: &Record) -> Findings {
    let Some(witness) = &record.witness else { return Findings::default() };
    let gap = witness.gap().map(|gap| {
        let detail = format!("the log was not read at {gap}: nothing is known of what was there");
        Finding::doubt("log", detail)
    });
    let changed = witness.changed.iter().cloned();
    let changed = changed.map(|detail| Finding::anomaly("committed entries", detail, None));
    let contradictions = witness::contradictions(witness, &record.traces).into_iter();
    let contradictions =
        contradictions.map(|(at_ns, detail)| Finding::anomaly("log", detail, Some(at_ns)));
    changed.chain(contradictions).chain(gap).collect()
}

/// Members that were changed in steps whose majorities can be apart.
fn members(record: &Record) -> Findings {
    // Behind a gap two of them need not follow each other; the gap is told beside this.
    let Some(witness) = record.witness.as_ref().filter(|witness| witness.gap().is_none()) else {
        return Findings::default();
    };
    let (configs, unread) = witness.configs();
    let unread = unread.into_iter().map(|detail| Finding::doubt("members", detail));
    let apart = configs::apart(&configs).into_iter().map(|(one, next)| {
        let (Config { index, sets }, Config { index: later, sets: then }) = (one, next);
        let detail = format!("voters {sets:?} of index {index} and {then:?} of {later}");
        Finding::anomaly("members", detail, None)
    });
    apart.chain(unread).collect()
}

#[cfg(test)]
mod tests;
