//! The log as a witness: where each write is, by the name that its client gave it.
//!
//! Every acknowledged write must be in the log, at the index that was told, and nowhere else. It must not take an
//! entry for an effect: apply may have refused it. Invariant: a log that begins too late proves nothing.

use std::collections::BTreeMap;

use crate::client::Lake;
use crate::outcome::Fault;
use crate::recorder::{Ending, Trace};
use crate::workloads::Workload;

/// What the log of one node says.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// The indexes of each name.
    pub(crate) places: BTreeMap<String, Vec<u64>>,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Reads the whole log of a node.
pub(crate) async fn read(lake: &Lake) -> Result<Witness, Fault> {
    let mut witness = Witness::default();
    loop {
        let records = lake.log(witness.last + 1).await?;
        let Some(last) = records.last().map(|record| record.index) else { return Ok(witness) };
        if last <= witness.last {
            return Ok(witness);
        }
        for record in records {
            if witness.first == 0 {
                witness.first = record.index;
            }
            // Parts of a long append and the clean-up behind a drop are no writes of their own.
            let is_write = !matches!(record.kind.as_str(), "stage" | "expire");
            if let Some(actor) = record.actor.filter(|_| is_write) {
                witness.places.entry(actor).or_default().push(record.index);
            }
        }
        witness.last = last;
    }
}

/// Returns what acknowledged writes the log contradicts, with the time of the answer.
pub(crate) fn contradictions(witness: &Witness, traces: &[Trace]) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    for trace in traces {
        let (Some(tag), Ending::Ok, Some(index)) = (&trace.tag, trace.ending, trace.index) else {
            continue;
        };
        // A retry in a session is told the index of the first try, whose name is another.
        if trace.workload == Workload::W6 || index < witness.first {
            continue;
        }
        let places = witness.places.get(tag).map(Vec::as_slice).unwrap_or_default();
        let why = match places {
            [place] if *place == index => continue,
            [] => "is not in the log".to_owned(),
            [place] => format!("is at index {place}"),
            several => format!("is in the log {} times: {several:?}", several.len()),
        };
        let Trace { book, node, end_ns, .. } = trace;
        found.push((
            *end_ns,
            format!("{tag} of {book}: node {node} acknowledged it at index {index}, and it {why}"),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(tag: &str, index: Option<u64>) -> Trace {
        Trace {
            workload: Workload::W3,
            book: "w3-0001".to_owned(),
            position: 0,
            process: 1,
            node: 2,
            begin_ns: 1,
            end_ns: 2,
            ending: if index.is_some() { Ending::Ok } else { Ending::Info },
            reason: None,
            is_write: true,
            tag: Some(tag.to_owned()),
            index,
        }
    }

    #[test]
    fn an_acknowledged_write_must_be_once_where_it_was_said_to_be() {
        let places = [("a", vec![5]), ("b", vec![7]), ("c", vec![8, 9])];
        let places = places.map(|(tag, indexes)| (tag.to_owned(), indexes)).into();
        let witness = Witness { places, first: 2, last: 9 };
        let traces = [
            trace("a", Some(5)),
            trace("b", Some(6)),
            trace("c", Some(8)),
            trace("d", Some(4)),
            trace("purged", Some(1)),
            trace("doubtful", None),
        ];
        let found: Vec<String> =
            contradictions(&witness, &traces).into_iter().map(|(_, detail)| detail).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].ends_with("it is at index 7") && found[1].contains("2 times"));
        assert!(found[2].ends_with("it is not in the log"));
    }
}
