//! Reads that decide a write: each of them fails once, for every kind of command.

use std::cell::Cell;
use std::collections::BTreeMap;

use alluvium_types::ErrorKind;

use crate::view::{ScanRange, Version};
use crate::workload::Workload;
use crate::{Key, Overlay, Table};

use super::*;

/// A view whose reads are counted, and fail from one of them on.
struct Probed<'a> {
    view: &'a dyn View,
    reads: Cell<usize>,
    fail_at: usize,
}

impl<'a> Probed<'a> {
    fn new(view: &'a dyn View, fail_at: usize) -> Self {
        Self { view, reads: Cell::new(0), fail_at }
    }

    fn read(&self, table: Table) -> Result<(), ViewError> {
        let number = self.reads.replace(self.reads.get() + 1);
        match number < self.fail_at {
            true => Ok(()),
            false => Err(ViewError::Read {
                table,
                kind: ErrorKind::Unavailable,
                source: "the disk failed".into(),
            }),
        }
    }
}

impl View for Probed<'_> {
    fn get_at(&self, table: Table, key: &Key, at: LogIndex) -> Result<Option<Vec<u8>>, ViewError> {
        self.read(table)?;
        self.view.get_at(table, key, at)
    }

    fn scan_at(
        &self,
        range: &ScanRange<'_>,
        at: LogIndex,
    ) -> Result<Vec<(Key, Vec<u8>)>, ViewError> {
        self.read(range.table)?;
        self.view.scan_at(range, at)
    }

    fn versions(&self, table: Table, key: &Key) -> Result<Vec<Version>, ViewError> {
        self.read(table)?;
        self.view.versions(table, key)
    }

    fn prunable(
        &self,
        range: &ScanRange<'_>,
        floor: LogIndex,
    ) -> Result<Vec<(Key, u64)>, ViewError> {
        self.read(range.table)?;
        self.view.prunable(range, floor)
    }
}

/// Every kind of command. A new one fails to compile here, and has to be reached below.
fn is_read(kind: CommandKind) -> bool {
    match kind {
        CommandKind::OpenSession
        | CommandKind::Register
        | CommandKind::Evolve
        | CommandKind::Stage
        | CommandKind::Append
        | CommandKind::Upsert
        | CommandKind::Tombstone
        | CommandKind::Seal
        | CommandKind::Compact
        | CommandKind::Attest
        | CommandKind::Expire
        | CommandKind::Swept
        | CommandKind::Drop
        | CommandKind::Checkpoint => true,
    }
}
const KINDS: usize = 14;

/// Applies an entry to a view through an overlay, as a batch does.
fn applied(view: &dyn View, entry: &EntryRef<'_>) -> Result<Applied, ViewError> {
    apply(&Overlay::new(view), entry)
}

#[test]
fn museum_m27_no_read_that_fails_is_taken_for_an_absence_by_any_command() {
    let mut reads_failed: BTreeMap<CommandKind, usize> = BTreeMap::new();
    for seed in 0..6 {
        let (mut machine, mut workload) = (Machine::new(), Workload::from_seed(seed));
        for _ in 0..200 {
            let index = machine.last().next();
            let (envelope, body) = workload.next(&machine.store, index).expect("reads");
            let payload_hash = payload_hash(&envelope.command, &body);
            let entry = EntryRef { index, envelope: &envelope, body: &body, payload_hash };
            let sound = Probed::new(&machine.store, usize::MAX);
            let before = machine.digest();
            applied(&sound, &entry).expect("a sound view");
            let kind = envelope.command.kind();
            for fail_at in 0..sound.reads.get() {
                let outcome = applied(&Probed::new(&machine.store, fail_at), &entry);
                let failed = matches!(&outcome, Err(ViewError::Read { .. }));
                assert!(failed, "seed {seed}, {kind:?}, read {fail_at}: {outcome:?}");
            }
            assert!(is_read(kind) && 0 < sound.reads.get(), "{kind:?} decides without reading");
            *reads_failed.entry(kind).or_default() += sound.reads.get();
            assert_eq!(machine.digest(), before, "a failed apply changes nothing");
            workload.answered(&machine.send(&envelope, &body));
        }
    }
    assert_eq!(reads_failed.len(), KINDS, "a kind was never sent: {reads_failed:?}");
}
