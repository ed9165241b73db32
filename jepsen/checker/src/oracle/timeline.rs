//! Indexes against real time.
//!
//! It must not look at answers. Invariant: an operation that began after another ended has no lower index, and
//! a write not the same one either.

use std::collections::BTreeMap;

use crate::call::Call;
use crate::history::{History, LogIndex, OpId};
use crate::sessions::Commands;
use crate::verdict::{Anomaly, Evidence};

/// An operation, or a command of a session with all its sends.
#[derive(Debug, Clone, Copy)]
struct Item {
    id: OpId,
    start: u64,
    end: Option<u64>,
    index: Option<LogIndex>,
    is_entry: bool,
}

/// The order of a history's indexes.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub(super) evidence: Vec<Evidence>,
    /// For each operation the highest index that was known before it began: its own is above that.
    floors: BTreeMap<OpId, LogIndex>,
}

impl Timeline {
    pub(super) fn of(history: &History) -> Self {
        let items = items(history);
        let mut timeline = Self { evidence: shared(&items), floors: BTreeMap::new() };
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (position, item) in items.iter().enumerate() {
            moments.push((item.start, false, position));
            moments.extend(item.end.map(|end| (end, true, position)));
        }
        // At the same instant calls come first: what only touches is concurrent.
        moments.sort_unstable();
        let mut highest: Option<(LogIndex, OpId)> = None;
        for (_, is_end, position) in moments {
            let item = items[position];
            if is_end {
                highest = highest.max(item.index.map(|index| (index, item.id)));
            } else {
                timeline.begin(item, highest);
            }
        }
        timeline
    }

    fn begin(&mut self, item: Item, highest: Option<(LogIndex, OpId)>) {
        let Some((floor, earlier)) = highest else { return };
        self.floors.insert(item.id, floor);
        let Some(index) = item.index else { return };
        let is_late = if item.is_entry { floor < index } else { floor <= index };
        if !is_late {
            let detail = format!("it has index {}, and one before it has {}", index.0, floor.0);
            let operations = [earlier, item.id];
            self.evidence.push(Evidence::new(Anomaly::IndexOrder, "log", operations, detail));
        }
    }

    /// Returns the index that the effect of operation `id` is above.
    pub(super) fn floor(&self, id: OpId) -> u64 {
        self.floors.get(&id).map_or(0, |floor| floor.0)
    }
}

fn items(history: &History) -> Vec<Item> {
    let mut items = Vec::new();
    for operation in history.operations() {
        let is_command = matches!(operation.call, Call::Increment { .. });
        if !operation.is_failed() && !is_command {
            items.push(Item {
                id: operation.id,
                start: operation.invoked_ns,
                end: operation.settled_ns(),
                index: operation.answer().map(|(_, index)| index),
                is_entry: !operation.call.is_read(),
            });
        }
    }
    // A command that is sent again answers with the index of its first effect.
    let commands = Commands::of(history);
    items.extend(commands.possible().map(|command| Item {
        id: command.first,
        start: command.sent_ns,
        end: command.acked_ns,
        index: command.answers.first().map(|answer| answer.index),
        is_entry: true,
    }));
    items
}

fn shared(items: &[Item]) -> Vec<Evidence> {
    let mut owners: BTreeMap<LogIndex, OpId> = BTreeMap::new();
    let mut found = Vec::new();
    for item in items.iter().filter(|item| item.is_entry) {
        let Some(index) = item.index else { continue };
        if let Some(other) = owners.insert(index, item.id) {
            let detail = format!("two writes have index {}", index.0);
            found.push(Evidence::new(Anomaly::SharedIndex, "log", [other, item.id], detail));
        }
    }
    found
}
