//! The log as a witness: where each write is, by the name that its client gave it.
//!
//! The log is followed while clients work, because nodes purge its beginning. Every acknowledged write must be in it, at
//! the index that was told, and nowhere else; and what one node has committed at an index is there on every node, for
//! ever. It must not take an entry for an effect: apply may have refused it. Invariant: a log of which a part was not
//! read proves nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use alluvium_checker::configs::Config;
use alluvium_proto::v1::LogRecord;

use crate::client::Lake;
use crate::limits;
use crate::outcome::Fault;
use crate::recorder::{Ending, Trace};
use crate::stage::Stage;
use crate::workloads::Workload;

/// The first entry that a client may ask for: the one before it founds the cluster.
const FIRST: u64 = 1;

/// The kind of entries that say who votes.
const MEMBERSHIP: &str = "membership";

/// What an entry is, on whichever node and whenever it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: String,
    actor: Option<String>,
    /// Who votes, of an entry that changes it.
    members: Option<String>,
    proposed_at_ms: Option<u64>,
    bytes: u64,
}

/// What a page of a node's log came to.
#[derive(Debug, PartialEq, Eq)]
enum Page {
    /// It was taken; so the log goes on.
    Next(u64),
    /// There is nothing behind what was read.
    End,
    /// The log begins later, and nothing was taken.
    Purged,
}

/// What the logs of all nodes said, at any time.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    entries: BTreeMap<u64, Entry>,
    /// Entries that were told in two ways.
    pub(crate) changed: Vec<String>,
}

impl Witness {
    /// The first and the last entry that was read.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.entries.first_key_value()?, self.entries.last_key_value()?);
        Some((*first.0, *last.0))
    }

    /// The first entry that nobody read, of those up to the last one that somebody did.
    pub(crate) fn gap(&self) -> Option<u64> {
        let mut read = (FIRST..).zip(self.entries.keys());
        let gap = read.find_map(|(expected, index)| (*index != expected).then_some(expected));
        gap.or_else(|| self.entries.is_empty().then_some(FIRST))
    }

    /// The indexes of each name.
    pub(crate) fn places(&self) -> BTreeMap<String, Vec<u64>> {
        let mut places = BTreeMap::<String, Vec<u64>>::new();
        for (index, entry) in &self.entries {
            // Parts of a long append and the clean-up behind a drop are no writes of their own.
            let is_write = !matches!(entry.kind.as_str(), "stage" | "expire");
            if let Some(actor) = entry.actor.as_ref().filter(|_| is_write) {
                places.entry(actor.clone()).or_default().push(*index);
            }
        }
        places
    }

    /// The sets of voters, one after another, and what of an entry could not be read.
    pub(crate) fn configs(&self) -> (Vec<Config>, Vec<String>) {
        let (mut configs, mut unread) = (Vec::new(), Vec::new());
        for (index, entry) in &self.entries {
            let Some(words) = &entry.members else { continue };
            match Config::parse(*index, words) {
                Some(config) => configs.push(config),
                None => unread.push(format!("the members at index {index} are {words:?}")),
            }
        }
        (configs, unread)
    }

    fn take(&mut self, node: u64, record: LogRecord) {
        let LogRecord { index, kind, actor, proposed_at_ms, bytes, detail, .. } = record;
        let members = (kind == MEMBERSHIP).then_some(detail);
        let told = Entry { kind, actor, members, proposed_at_ms, bytes };
        match self.entries.entry(index) {
            Slot::Vacant(slot) => {
                slot.insert(told);
            }
            Slot::Occupied(known) if *known.get() == told => {}
            Slot::Occupied(known) => self.changed.push(format!(
                "node {node} has {told:?} at index {index}, where {:?} was committed",
                known.get()
            )),
        }
    }

    /// Reads on from an index to the end of what a node has applied. Returns false, and passes over nothing, where its log
    /// begins behind that index and `may_skip` is not said.
    async fn read(&mut self, lake: &Lake, from: u64, may_skip: bool) -> Result<bool, Fault> {
        let mut next = from;
        loop {
            let records = lake.log(next).await?;
            match self.take_page(lake.node().0, records, (next, may_skip)) {
                Page::Next(index) => next = index,
                Page::End => return Ok(true),
                Page::Purged => return Ok(false),
            }
        }
    }

    /// Takes what a node answered when it was asked for its log from `next` on.
    fn take_page(&mut self, node: u64, records: Vec<LogRecord>, asked: (u64, bool)) -> Page {
        let (next, may_skip) = asked;
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Page::End };
        let (first, last) = (first.index, last.index);
        if last < next {
            return Page::End;
        }
        if next < first && !may_skip {
            return Page::Purged;
        }
        records.into_iter().for_each(|record| self.take(node, record));
        Page::Next(last + 1)
    }

    /// Reads what is behind the last entry that was read, if the node still has it: another one may.
    pub(crate) async fn read_on(&mut self, lake: &Lake, may_skip: bool) -> Result<bool, Fault> {
        let from = self.entries.last_key_value().map_or(FIRST, |(last, _)| last + 1);
        self.read(lake, from, may_skip).await
    }

    /// Reads the whole log of a node: what of it is still there.
    pub(crate) async fn read_all(&mut self, lake: &Lake) -> Result<(), Fault> {
        self.read(lake, FIRST, true).await.map(drop)
    }

    /// Follows the log, now at this node and now at that, until it is over. What one has purged is sought at the others,
    /// also at those that are away for a while.
    pub(crate) async fn follow(
        &mut self,
        stage: &Stage,
        is_over: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let connect = |address| Lake::new(address, limits::CALL_DEADLINE);
        let lakes = stage.addresses.iter().map(connect).collect::<anyhow::Result<Vec<_>>>()?;
        let mut sought = 0;
        for lake in lakes.iter().cycle() {
            if is_over() {
                break;
            }
            let pause = match self.read_on(lake, limits::SEEK_ROUNDS * lakes.len() <= sought).await
            {
                Ok(true) => {
                    sought = 0;
                    limits::FOLLOW_PAUSE
                }
                Ok(false) => {
                    sought += 1;
                    limits::AWAY_PAUSE
                }
                // It is away, and may have what the others have not.
                Err(_fault) => limits::AWAY_PAUSE,
            };
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }
}

/// Returns what acknowledged writes the log contradicts, with the time of the answer.
pub(crate) fn contradictions(witness: &Witness, traces: &[Trace]) -> Vec<(u64, String)> {
    let (mut found, all) = (Vec::new(), witness.places());
    for trace in traces {
        let (Some(tag), Ending::Ok, Some(index)) = (&trace.tag, trace.ending, trace.index) else {
            continue;
        };
        // A retry in a session is told the index of the first try, whose name is another.
        // An index that nobody read, but later ones: that is a gap, which is told by itself.
        let is_unread = !witness.entries.contains_key(&index);
        let is_behind = witness.span().is_some_and(|(_, last)| index < last);
        if trace.workload == Workload::W6 || (is_unread && is_behind) {
            continue;
        }
        let places = all.get(tag).map(Vec::as_slice).unwrap_or_default();
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
impl Witness {
    /// A witness that read a log of these names, the first of them at the first index.
    pub(crate) fn of(names: &[&str]) -> Self {
        let mut witness = Self::default();
        for (name, index) in names.iter().zip(FIRST..) {
            witness.take(1, record(index, name));
        }
        witness
    }
}

#[cfg(test)]
fn record(index: u64, name: &str) -> LogRecord {
    let actor = (!name.is_empty()).then(|| name.to_owned());
    LogRecord { index, kind: "append".to_owned(), actor, bytes: 9, ..LogRecord::default() }
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
            message: None,
            is_write: true,
            tag: Some(tag.to_owned()),
            index,
        }
    }

    #[test]
    fn what_a_node_has_purged_is_passed_over_only_when_that_is_said() {
        let mut witness = Witness::of(&["a", "b"]);
        let late = || vec![record(5, "e"), record(6, "f")];
        assert_eq!(witness.take_page(1, late(), (3, false)), Page::Purged);
        assert_eq!(witness.span(), Some((1, 2)), "nothing of it was taken");
        // Another node has it.
        assert_eq!(witness.take_page(2, vec![record(3, "c")], (3, false)), Page::Next(4));
        assert_eq!(witness.take_page(2, Vec::new(), (4, false)), Page::End);
        assert_eq!(witness.take_page(2, vec![record(3, "c")], (4, false)), Page::End);
        assert_eq!(witness.gap(), None);
        assert_eq!(witness.take_page(1, late(), (4, true)), Page::Next(7));
        assert_eq!(witness.gap(), Some(4));
    }

    #[test]
    fn an_acknowledged_write_must_be_once_where_it_was_said_to_be() {
        let witness = Witness::of(&["", "", "", "", "a", "", "b", "c", "c"]);
        let traces = [
            trace("a", Some(5)),
            trace("b", Some(6)),
            trace("c", Some(8)),
            trace("d", Some(4)),
            trace("doubtful", None),
        ];
        let found: Vec<String> =
            contradictions(&witness, &traces).into_iter().map(|(_, detail)| detail).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].ends_with("it is at index 7") && found[1].contains("2 times"));
        assert!(found[2].ends_with("it is not in the log"));
    }

    #[test]
    fn what_was_read_of_a_purged_log_is_held_against_nobody() {
        let mut witness = Witness::default();
        [(5, "a"), (6, "b")].into_iter().for_each(|(at, name)| witness.take(1, record(at, name)));
        assert_eq!((witness.gap(), witness.span()), (Some(1), Some((5, 6))));
        let traces = [trace("purged", Some(2)), trace("a", Some(5)), trace("c", Some(6))];
        let found = contradictions(&witness, &traces);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(Witness::default().gap(), Some(1));
        assert_eq!(Witness::of(&["a", "b"]).gap(), None);
    }

    #[test]
    fn an_entry_that_another_node_has_otherwise_is_told() {
        let mut witness = Witness::of(&["a", "b"]);
        witness.take(2, record(2, "b"));
        assert_eq!(witness.changed, Vec::<String>::new());
        witness.take(3, record(2, "c"));
        assert_eq!(witness.changed.len(), 1);
        assert!(witness.changed[0].starts_with("node 3 has"), "{:?}", witness.changed);
    }
}
