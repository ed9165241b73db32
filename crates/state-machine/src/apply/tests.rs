//! What commands do, told through one machine that applies and commits them.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names the one outcome it expects")]

mod catalog_commands;
mod files;
mod museum;
mod probes;
mod references;
mod rows;
mod sequences;
mod sessions;

use alluvium_types::{
    Append, Attest, AttestOutcome, Compact, DataType, DatasetKey, DatasetOptions, Drop, Evolve,
    Expire, Field, FieldId, FileId, KeyBlock, KeyBlockBuilder, KeyValue, OpenSession, Register,
    RowSource, Schema, SchemaChange, SchemaVersion, Seal, Sequence, SessionId, SessionRef, Swept,
    Tombstone, TombstoneSource, Upsert, codec::ALIGNMENT, encode_key,
};

use crate::record::{AppliedEntry, DatasetRecord, FileRecord};
use crate::{
    BatchEntry, BatchResult, Effect, EntryContent, MemoryStore, MetaStore, StateDigest, apply_batch,
};

use super::*;

/// A machine that applies one entry at a time.
pub(crate) struct Machine {
    pub(crate) store: MemoryStore,
    pub(crate) now_ms: u64,
    pub(crate) effects: Vec<Effect>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { store: MemoryStore::new(), now_ms: 1_000, effects: Vec::new() }
    }

    pub(crate) fn last(&self) -> LogIndex {
        self.store.raft().applied.map_or(LogIndex(0), |applied| applied.index)
    }

    pub(crate) fn digest(&self) -> StateDigest {
        self.store.digest()
    }

    pub(crate) fn envelope(&self, command: Command) -> Envelope {
        let (actor, proposed_at_ms) = ("test".to_owned(), self.now_ms);
        Envelope { session: None, actor, proposed_at_ms, expected_index: None, command }
    }

    /// Applies and commits an entry; the digest kept must be the one recomputed.
    pub(crate) fn send(&mut self, envelope: &Envelope, body: &Bytes) -> Response {
        let id = entry_id(self.last().next());
        let payload_hash = payload_hash(&envelope.command, body);
        let content = EntryContent::Command { envelope, body, payload_hash };
        let result = apply_batch(&self.store, &[BatchEntry { id, content }]).expect("applies");
        let BatchResult { mut responses, effects, commit } = result;
        let digest = self.store.commit(commit).expect("commits");
        assert_eq!(digest, self.store.recompute_digest().expect("recomputes"));
        self.effects = effects;
        responses.pop().flatten().expect("a command is answered")
    }

    pub(crate) fn run_with(&mut self, command: Command, body: &Bytes) -> Outcome {
        let envelope = self.envelope(command);
        self.send(&envelope, body).outcome
    }

    pub(crate) fn run(&mut self, command: Command) -> Outcome {
        self.run_with(command, &Bytes::new())
    }

    pub(crate) fn in_session(
        &mut self,
        session: SessionId,
        sequence: u64,
        command: Command,
    ) -> Response {
        let mut envelope = self.envelope(command);
        envelope.session = Some(SessionRef { id: session, sequence: Sequence(sequence) });
        self.send(&envelope, &Bytes::new())
    }

    pub(crate) fn open_session(&mut self, ttl_ms: u64) -> SessionId {
        match self.run(Command::OpenSession(OpenSession { ttl_ms })) {
            Outcome::SessionOpened { session } => session,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn register(&mut self, name: &str) -> DatasetKey {
        match self.run(Command::Register(register(name))) {
            Outcome::Registered { dataset, .. } => dataset,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn append(&mut self, dataset: DatasetKey, rows: u32) -> LogIndex {
        let (command, body) = append(dataset, SchemaVersion(1), rows);
        let outcome = self.run_with(command, &body);
        assert_eq!(outcome, Outcome::Appended { rows: u64::from(rows) });
        self.last()
    }

    pub(crate) fn upsert(&mut self, dataset: DatasetKey, keys: &[i64]) -> LogIndex {
        let (command, body) = upsert(dataset, keys);
        let outcome = self.run_with(command, &body);
        assert_eq!(outcome, Outcome::Upserted { rows: keys.len() as u64 });
        self.last()
    }

    pub(crate) fn tombstone(&mut self, dataset: DatasetKey, keys: &[i64]) -> LogIndex {
        let command = tombstone(dataset);
        let outcome = self.run_with(command, block(keys).as_bytes());
        assert_eq!(outcome, Outcome::Tombstoned { keys: keys.len() as u64 });
        self.last()
    }

    pub(crate) fn seal(&mut self, dataset: DatasetKey) -> FileId {
        match self.run(Command::Seal(Seal { dataset })) {
            Outcome::Sealed { file: Some(file), .. } => file,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn compact(
        &mut self,
        dataset: DatasetKey,
        inputs: &[FileId],
        cutoff: LogIndex,
    ) -> Outcome {
        self.run(Command::Compact(Compact { dataset, inputs: inputs.to_vec(), cutoff }))
    }

    /// Attests a file whose writer hid `rows_hidden` rows.
    pub(crate) fn attest(
        &mut self,
        dataset: DatasetKey,
        file: FileId,
        rows_hidden: u64,
    ) -> Outcome {
        let record = self.file(dataset, file).expect("planned");
        let written = crate::workload::written(&self.store, dataset, &record, rows_hidden);
        let outcome = AttestOutcome::Written(Box::new(written.expect("reads")));
        self.run(Command::Attest(Attest { dataset, file, outcome }))
    }

    /// Appends, seals and attests: one live file.
    pub(crate) fn live_file(&mut self, dataset: DatasetKey, rows: u32) -> FileId {
        self.append(dataset, rows);
        let file = self.seal(dataset);
        assert_eq!(self.attest(dataset, file, 0), Outcome::Attested { file });
        file
    }

    pub(crate) fn file(&self, dataset: DatasetKey, file: FileId) -> Option<FileRecord> {
        catalog::file(&self.store, dataset, file, LogIndex::MAX).expect("reads")
    }

    pub(crate) fn dataset(&self, key: DatasetKey) -> DatasetRecord {
        let found = catalog::dataset(&self.store, key, LogIndex::MAX).expect("reads");
        found.expect("it was registered")
    }

    pub(crate) fn delta_indexes(&self, key: DatasetKey) -> Vec<u64> {
        let deltas = catalog::deltas(&self.store, key, LogIndex::MAX).expect("reads");
        deltas.into_iter().map(|(index, _)| index.0).collect()
    }

    pub(crate) fn tombstone_indexes(&self, key: DatasetKey, at: LogIndex) -> Vec<u64> {
        let blocks = catalog::tombstones(&self.store, key, at).expect("reads");
        blocks.into_iter().map(|(index, _)| index.0).collect()
    }

    pub(crate) fn evolve(&mut self, dataset: DatasetKey, changes: Vec<SchemaChange>) -> Outcome {
        self.run(Command::Evolve(Evolve { dataset, changes }))
    }

    pub(crate) fn expire(&mut self, dataset: DatasetKey, floor: u64) -> Outcome {
        self.run(Command::Expire(Expire { dataset, floor: LogIndex(floor) }))
    }

    pub(crate) fn drop_dataset(&mut self, dataset: DatasetKey) -> Outcome {
        self.run(Command::Drop(Drop { dataset }))
    }

    pub(crate) fn swept(&mut self, dataset: DatasetKey, files: &[FileId]) -> Outcome {
        self.run(Command::Swept(Swept { dataset, files: files.to_vec() }))
    }

    pub(crate) fn sweepable(&self) -> Vec<FileId> {
        let waiting = catalog::sweepable(&self.store).expect("reads");
        waiting.into_iter().map(|(_, file, _)| file).collect()
    }
}

pub(crate) fn entry_id(index: LogIndex) -> AppliedEntry {
    AppliedEntry { term: 1, leader: alluvium_types::NodeId(1), index }
}

pub(crate) fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field { id: FieldId(0), name: name.to_owned(), data_type, nullable }
}

pub(crate) fn register(name: &str) -> Register {
    let fields = vec![
        field("id", DataType::Int32, false),
        field("text", DataType::Utf8, true),
        field("place", DataType::Struct(vec![field("x", DataType::Float32, true)]), true),
    ];
    Register {
        name: name.parse().expect("a legal name"),
        schema: Schema { fields, key_columns: vec!["id".to_owned()] },
        bucket: "main".to_owned(),
        options: DatasetOptions::standard(),
    }
}

pub(crate) fn append(
    dataset: DatasetKey,
    schema_version: SchemaVersion,
    rows: u32,
) -> (Command, Bytes) {
    let source = RowSource::Inline { rows, rows_bytes: 100 };
    let command = Command::Append(Append { dataset, schema_version, source });
    (command, Bytes::from(vec![7; 100]))
}

pub(crate) fn upsert(dataset: DatasetKey, keys: &[i64]) -> (Command, Bytes) {
    let rows = u32::try_from(keys.len()).expect("few");
    let mut body = vec![7; 100];
    body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
    body.extend_from_slice(block(keys).as_bytes());
    let source = RowSource::Inline { rows, rows_bytes: 100 };
    let schema_version = SchemaVersion(1);
    (Command::Upsert(Upsert { dataset, schema_version, source }), body.into())
}

pub(crate) fn tombstone(dataset: DatasetKey) -> Command {
    Command::Tombstone(Tombstone { dataset, source: TombstoneSource::Inline, predicate: None })
}

pub(crate) fn block(keys: &[i64]) -> KeyBlock {
    let mut builder = KeyBlockBuilder::default();
    for (row, key) in (0..).zip(keys) {
        let mut encoded = Vec::new();
        encode_key([KeyValue::Int(*key)], &mut encoded);
        builder.push(encoded, row).expect("a short key");
    }
    builder.build_set().expect("few keys")
}

#[track_caller]
pub(crate) fn assert_rejected(outcome: Outcome, expect: &str) {
    match outcome {
        Outcome::Rejected(rejection) => assert_eq!(rejection.to_string(), expect),
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn an_actor_that_is_too_long_is_refused() {
    let mut machine = Machine::new();
    let mut envelope = machine.envelope(Command::Register(register("a")));
    envelope.actor = "x".repeat(257);
    let outcome = machine.send(&envelope, &Bytes::new()).outcome;
    assert_rejected(
        outcome,
        "illegal register command: the actor of an entry has 257 bytes, the limit is 256",
    );
}

#[test]
fn the_clock_is_the_maximum_seen() {
    let mut machine = Machine::new();
    for (proposed, clock) in [(1_000, 1_000), (900, 1_000), (1_001, 1_001)] {
        machine.now_ms = proposed;
        machine.open_session(0);
        assert_eq!(catalog::clock(&machine.store).expect("reads"), clock);
    }
}

#[test]
fn a_rejection_that_would_be_large_is_shortened() {
    let mut machine = Machine::new();
    let dataset = machine.register("a");
    let column = "c".repeat(100_000);
    let outcome = machine.evolve(dataset, vec![SchemaChange::Drop { column }]);
    let Outcome::Rejected(rejection) = outcome else { panic!("{outcome:?}") };
    let text = rejection.to_string();
    assert!(text.starts_with("illegal evolve command: column \"ccc"), "{text}");
    assert!(text.len() < 600, "{} bytes", text.len());
}

#[test]
fn payloads_differ_by_command_and_body() {
    let one = Command::Register(register("a"));
    let two = Command::Register(register("b"));
    let all = std::collections::BTreeSet::from([
        payload_hash(&one, b""),
        payload_hash(&one, b"x"),
        payload_hash(&two, b""),
    ]);
    assert_eq!(all.len(), 3);
    assert_eq!(payload_hash(&one, b"x"), payload_hash(&one.clone(), b"x"));
}
