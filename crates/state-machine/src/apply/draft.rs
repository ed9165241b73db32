//! The changes of one entry while it is applied, on top of the state before it.
//!
//! It must not decide anything. Invariant: mutations leave in the order of their keys, one write a
//! key.

use alluvium_types::{CommandKind, DatasetKey, LogIndex, Rejection, Response, codec};

use crate::overlay::{Changes, Overlay};
use crate::record::DatasetRecord;
use crate::view::{Applied, Effect, Mutation, Operation, View, ViewError, record_at};
use crate::{Key, Table, catalog};

use super::EntryRef;

/// Why a command does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is refused: every replica refuses it.
    Rejected(Box<Rejection>),
    /// This node failed.
    Fault(ViewError),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

impl From<ViewError> for Stop {
    fn from(fault: ViewError) -> Self {
        Self::Fault(fault)
    }
}

/// A state in the making.
pub(super) struct Draft<'a> {
    overlay: Overlay<'a>,
    effects: Vec<Effect>,
    /// The entry's index.
    pub(super) index: LogIndex,
    /// The state machine's time, this entry's included.
    pub(super) now_ms: u64,
    command: CommandKind,
}

/// What a draft came to.
pub(super) struct Done {
    changes: Changes,
    effects: Vec<Effect>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(view: &'a dyn View, entry: &EntryRef<'_>, now_ms: u64) -> Self {
        let command = entry.envelope.command.kind();
        let overlay = Overlay::new(view);
        Self { overlay, effects: Vec::new(), index: entry.index, now_ms, command }
    }

    /// Returns a draft on top of this one, to be absorbed or thrown away.
    pub(super) fn attempt(&self) -> Draft<'_> {
        Draft { overlay: Overlay::new(&self.overlay), effects: Vec::new(), ..*self }
    }

    pub(super) fn into_done(self) -> Done {
        Done { changes: self.overlay.into_changes(), effects: self.effects }
    }

    pub(super) fn absorb(&mut self, done: Done) {
        self.overlay.absorb(done.changes);
        self.effects.extend(done.effects);
    }

    pub(super) fn finish(self, response: Response) -> Applied {
        let mut mutations = Vec::new();
        for ((table, key), change) in self.overlay.into_changes() {
            for operation in change.into_operations() {
                mutations.push(Mutation { table, key: key.clone(), operation });
            }
        }
        Applied { mutations, effects: self.effects, response }
    }

    pub(super) fn view(&self) -> &dyn View {
        &self.overlay
    }

    /// Returns a record as this entry sees it.
    pub(super) fn record<T: bincode::Decode<()>>(
        &self,
        table: Table,
        key: &Key,
    ) -> Result<Option<T>, ViewError> {
        record_at(&self.overlay, table, key, LogIndex::MAX)
    }

    /// Writes a record that holds what users sent, and may be too large.
    pub(super) fn put<T: bincode::Encode>(
        &mut self,
        table: Table,
        key: Key,
        record: &T,
    ) -> Result<(), Stop> {
        let illegal = |error| Rejection::illegal(self.command, &error);
        let value = codec::encode(record).map_err(illegal)?;
        self.put_bytes(table, key, value);
        Ok(())
    }

    /// Writes a record of numbers only.
    pub(super) fn put_small<T: bincode::Encode>(&mut self, table: Table, key: Key, record: &T) {
        let value = codec::encode(record).expect("a record of a few numbers is small");
        self.put_bytes(table, key, value);
    }

    pub(super) fn put_bytes(&mut self, table: Table, key: Key, value: Vec<u8>) {
        self.change(table, key, Operation::Put(value));
    }

    pub(super) fn delete(&mut self, table: Table, key: Key) {
        self.change(table, key, Operation::Delete);
    }

    pub(super) fn prune(&mut self, table: Table, key: Key, floor: LogIndex) {
        assert!(floor < self.index, "a floor is below the entry that moves it");
        self.change(table, key, Operation::Prune { floor });
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Returns a dataset that is not dropped.
    pub(super) fn live_dataset(&self, key: DatasetKey) -> Result<DatasetRecord, Stop> {
        match catalog::dataset(&self.overlay, key, LogIndex::MAX)? {
            Some(record) if !record.dropped => Ok(record),
            Some(_) | None => Err(Rejection::DatasetNotFound { dataset: key }.into()),
        }
    }

    /// Refuses the command in words.
    pub(super) fn illegal(&self, reason: &str) -> Stop {
        Rejection::Illegal { command: self.command, reason: reason.to_owned() }.into()
    }

    /// Refuses the command for what is wrong with a value in it.
    pub(super) fn illegal_value(&self, error: &alluvium_types::Error) -> Stop {
        Rejection::illegal(self.command, error).into()
    }

    fn change(&mut self, table: Table, key: Key, operation: Operation) {
        self.overlay.record(self.index, Mutation { table, key, operation });
    }
}
