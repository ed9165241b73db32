//! A dataset with its log, metadata and bucket, and the model that its rows must agree with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alluvium_parquet::Projection;
use alluvium_rows::{INDEX_COLUMN, KeyEncoder, adapt, conform, split};
use alluvium_state_machine::record::{AppliedEntry, FileRecord, FileState};
use alluvium_state_machine::{
    BatchEntry, BatchResult, EntryContent, MemoryStore, MetaStore, apply_batch, catalog,
    payload_hash,
};
use alluvium_storage::{Bucket, BucketKind};
use alluvium_types::{
    Append, Attest, AttestOutcome, Command, Compact, DataType, DatasetKey, DatasetOptions, Entry,
    Envelope, Field, FieldId, FileId, KeyBlock, LogIndex, NodeId, Outcome, Register, RowSource,
    Schema, SchemaVersion, Seal, Tombstone, TombstoneSource, Upsert,
};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::UInt64Type;
use bytes::Bytes;
use futures::executor::block_on;
use object_store::memory::InMemory;

use crate::*;

pub(crate) const BUCKET: &str = "test";

/// The log as the engine would keep it.
#[derive(Default)]
pub(crate) struct Log(pub(crate) Mutex<BTreeMap<LogIndex, Entry>>);

impl LogSource for Log {
    fn entry(&self, index: LogIndex) -> Result<Entry, LogError> {
        let entries = self.0.lock().expect("no test panics while it holds the log");
        entries.get(&index).cloned().ok_or(LogError::Purged { index })
    }
}

pub(crate) struct Lake {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) log: Arc<Log>,
    pub(crate) bucket: Bucket,
    pub(crate) dataset: DatasetKey,
    /// Every row ever put: key, value, index; and every tombstone: key, index.
    pub(crate) put: Vec<(Vec<u8>, Option<String>, u64)>,
    pub(crate) hidden: Vec<(Vec<u8>, u64)>,
}

pub(crate) type Row = (Vec<u8>, Option<String>, u64);

pub(crate) fn row(key: &[u8], value: &str) -> (Vec<u8>, Option<String>) {
    (key.to_vec(), Some(value.to_owned()))
}

impl Lake {
    pub(crate) fn new() -> Self {
        Self::with(DatasetOptions::standard())
    }

    pub(crate) fn with(options: DatasetOptions) -> Self {
        let bucket = Bucket::over(BUCKET, Arc::new(InMemory::new()), BucketKind::PerNode);
        let name: alluvium_types::DatasetName = "lake".parse().expect("legal");
        let mut lake = Self {
            store: Arc::new(MemoryStore::new()),
            log: Arc::default(),
            bucket,
            dataset: DatasetKey {
                id: alluvium_types::DatasetId::of(&name),
                incarnation: alluvium_types::Incarnation(0),
            },
            put: Vec::new(),
            hidden: Vec::new(),
        };
        let field = |name: &str, data_type, nullable| Field {
            id: FieldId(0),
            name: name.to_owned(),
            data_type,
            nullable,
        };
        let fields = vec![field("k", DataType::Binary, false), field("v", DataType::Utf8, true)];
        let schema = Schema { fields, key_columns: vec!["k".to_owned()] };
        let register = Register { name, schema, bucket: BUCKET.to_owned(), options };
        let outcome = lake.send(Command::Register(register), &Bytes::new());
        let Outcome::Registered { dataset, .. } = outcome else { panic!("{outcome:?}") };
        lake.dataset = dataset;
        lake
    }

    pub(crate) fn last(&self) -> LogIndex {
        self.store.raft().applied.map_or(LogIndex(0), |applied| applied.index)
    }

    pub(crate) fn send(&mut self, command: Command, body: &Bytes) -> Outcome {
        let index = self.last().next();
        let id = AppliedEntry { term: 1, leader: NodeId(1), index };
        let (actor, proposed_at_ms) = ("test".to_owned(), index.0);
        let envelope =
            Envelope { session: None, actor, proposed_at_ms, expected_index: None, command };
        let entry = Entry::command(&envelope, body).expect("within the limits");
        self.log.0.lock().expect("no panic").insert(index, entry);
        let payload_hash = payload_hash(&envelope.command, body);
        let content = EntryContent::Command { envelope: &envelope, body, payload_hash };
        let entries = [BatchEntry { id, content }];
        let result = apply_batch(self.store.as_ref(), &entries).expect("applies");
        let BatchResult { mut responses, commit, .. } = result;
        self.store.commit(commit).expect("commits");
        responses.pop().flatten().expect("answered").outcome
    }

    pub(crate) fn schema(&self) -> (SchemaVersion, Schema) {
        let version = self.context().dataset.schema_version;
        let view = self.store.as_ref();
        let schema = catalog::schema(view, self.dataset, version, LogIndex::MAX);
        (version, schema.expect("registered"))
    }

    pub(crate) fn context(&self) -> FileContext {
        let view = self.store.as_ref();
        let record = catalog::dataset(view, self.dataset, LogIndex::MAX).expect("readable");
        FileContext {
            dataset: record.expect("registered"),
            bucket: self.bucket.clone(),
            view: Arc::clone(&self.store) as _,
            log: Arc::clone(&self.log) as _,
        }
    }

    fn batch(&self, rows: &[(Vec<u8>, Option<String>)]) -> RecordBatch {
        let keys: ArrayRef =
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|(key, _)| key)));
        let values: ArrayRef =
            Arc::new(rows.iter().map(|(_, value)| value.as_deref()).collect::<StringArray>());
        let (_, schema) = self.schema();
        let names = schema.fields.iter().map(|field| field.name.clone());
        let batch = RecordBatch::try_from_iter(names.zip([keys, values])).expect("two columns");
        conform(&batch, &schema).expect("fits")
    }

    pub(crate) fn append(&mut self, rows: &[(Vec<u8>, Option<String>)]) {
        let (schema_version, _) = self.schema();
        let mut pieces = split(&self.batch(rows), None).expect("small");
        let piece = pieces.pop().expect("one");
        assert!(pieces.is_empty(), "a test batch fits one entry");
        let (rows_in, rows_bytes) = (piece.rows, piece.rows_bytes);
        let source = RowSource::Inline { rows: rows_in, rows_bytes };
        let append = Append { dataset: self.dataset, schema_version, source };
        let outcome = self.send(Command::Append(append), &piece.body);
        assert!(matches!(outcome, Outcome::Appended { .. }), "{outcome:?}");
        self.remember(rows);
    }

    pub(crate) fn upsert(&mut self, rows: &[(Vec<u8>, Option<String>)]) {
        let (schema_version, schema) = self.schema();
        let keys = KeyEncoder::new(&schema).expect("keyed");
        let piece = split(&self.batch(rows), Some(&keys)).expect("small").remove(0);
        let source = RowSource::Inline { rows: piece.rows, rows_bytes: piece.rows_bytes };
        let upsert = Upsert { dataset: self.dataset, schema_version, source };
        let outcome = self.send(Command::Upsert(upsert), &piece.body);
        assert!(matches!(outcome, Outcome::Upserted { .. }), "{outcome:?}");
        let index = self.last().0;
        self.hidden.extend(rows.iter().map(|(key, _)| (key.clone(), index)));
        self.remember(rows);
    }

    fn remember(&mut self, rows: &[(Vec<u8>, Option<String>)]) {
        let index = self.last().0;
        self.put.extend(rows.iter().map(|(key, value)| (key.clone(), value.clone(), index)));
    }

    pub(crate) fn tombstone(&mut self, keys: &[&[u8]]) {
        let (_, schema) = self.schema();
        let array: ArrayRef = Arc::new(BinaryArray::from_iter_values(keys));
        let name = schema.key_columns[0].clone();
        let batch = RecordBatch::try_from_iter([(name, array)]).expect("one column");
        let block: KeyBlock =
            KeyEncoder::new(&schema).expect("keyed").from_key_batch(&batch).expect("keys");
        let (dataset, source, predicate) = (self.dataset, TombstoneSource::Inline, None);
        let command = Command::Tombstone(Tombstone { dataset, source, predicate });
        let outcome = self.send(command, block.as_bytes());
        assert!(matches!(outcome, Outcome::Tombstoned { .. }), "{outcome:?}");
        let index = self.last().0;
        self.hidden.extend(keys.iter().map(|key| (key.to_vec(), index)));
    }

    pub(crate) fn plan_seal(&mut self) -> FileRecord {
        let outcome = self.send(Command::Seal(Seal { dataset: self.dataset }), &Bytes::new());
        let Outcome::Sealed { file: Some(file), .. } = outcome else { panic!("{outcome:?}") };
        self.file(file).expect("planned")
    }

    pub(crate) fn plan_compaction(&mut self) -> FileRecord {
        let inputs: Vec<FileId> = self.live().iter().map(|record| record.file).collect();
        let command = Compact { dataset: self.dataset, inputs, cutoff: self.last() };
        let outcome = self.send(Command::Compact(command), &Bytes::new());
        let Outcome::CompactionPlanned { file } = outcome else { panic!("{outcome:?}") };
        self.file(file).expect("planned")
    }

    pub(crate) fn make(&self, plan: &FileRecord) -> Result<AttestOutcome, Error> {
        let context = self.context();
        match plan.generation {
            0 => block_on(seal(&context, plan)),
            _ => block_on(compact(&context, plan)),
        }
    }

    pub(crate) fn attest(&mut self, plan: &FileRecord, outcome: AttestOutcome) {
        let command = Attest { dataset: self.dataset, file: plan.file, outcome };
        let answer = self.send(Command::Attest(command), &Bytes::new());
        assert_eq!(answer, Outcome::Attested { file: plan.file });
    }

    pub(crate) fn seal(&mut self) -> FileRecord {
        let plan = self.plan_seal();
        let outcome = self.make(&plan).expect("made");
        self.attest(&plan, outcome);
        self.file(plan.file).expect("live")
    }

    /// Compacts all live files; none when no row is left.
    pub(crate) fn compact(&mut self) -> Option<FileRecord> {
        let plan = self.plan_compaction();
        let outcome = self.make(&plan).expect("made");
        self.attest(&plan, outcome);
        self.file(plan.file)
    }

    pub(crate) fn file(&self, file: FileId) -> Option<FileRecord> {
        let found = catalog::file(self.store.as_ref(), self.dataset, file, LogIndex::MAX);
        found.expect("readable")
    }

    pub(crate) fn live(&self) -> Vec<FileRecord> {
        self.files(LogIndex::MAX)
    }

    fn files(&self, at: LogIndex) -> Vec<FileRecord> {
        let files = catalog::files(self.store.as_ref(), self.dataset, at).expect("readable");
        files.into_iter().filter(FileRecord::is_live).collect()
    }

    pub(crate) fn bytes(&self, record: &FileRecord) -> Bytes {
        let key = object_key(self.dataset, record.file, record.generation);
        block_on(self.bucket.get(&key)).expect("readable").expect("there")
    }

    /// Returns the rows that a reader sees as of `at`, from files, deltas and tombstones.
    pub(crate) fn visible(&self, at: LogIndex) -> Vec<Row> {
        let view = self.store.as_ref();
        let (_, schema) = self.schema();
        let keys = KeyEncoder::new(&schema).expect("keyed");
        let blocks = catalog::tombstones(view, self.dataset, at).expect("readable");
        let index = TombstoneIndex::from_blocks(&blocks);
        let mut batches = Vec::new();
        for record in self.files(at) {
            let FileState::Live(_) = record.state else { continue };
            let own = catalog::schema(view, self.dataset, record.schema_version, at).expect("own");
            let read = alluvium_parquet::read_file(self.bytes(&record), &Projection::All);
            let adapted = |batch| adapt(&batch, &own, &schema).expect("follows");
            batches.extend(read.expect("whole").into_iter().map(adapted));
        }
        for (visible_at, delta) in catalog::deltas(view, self.dataset, at).expect("readable") {
            let own = catalog::schema(view, self.dataset, delta.schema_version, at).expect("own");
            let read = read_delta(self.log.as_ref(), &delta, visible_at, &own).expect("in the log");
            batches.extend(read.iter().map(|batch| adapt(batch, &own, &schema).expect("follows")));
        }
        let mut rows = Vec::new();
        for batch in &batches {
            let hidden = index.resolve(&keys, batch, at).expect("resolved");
            let all = rows_of(batch).into_iter().zip(0..);
            rows.extend(all.filter(|(_, n)| !hidden.contains(*n)).map(|(row, _)| row));
        }
        rows.sort();
        rows
    }

    /// Returns the rows that must be seen as of `at`.
    pub(crate) fn expected(&self, at: LogIndex) -> Vec<Row> {
        let is_hidden = |(key, _, index): &Row| {
            self.hidden.iter().any(|(k, t)| k == key && index < t && *t <= at.0)
        };
        let mut rows: Vec<Row> =
            self.put.iter().filter(|row| row.2 <= at.0 && !is_hidden(row)).cloned().collect();
        rows.sort();
        rows
    }

    pub(crate) fn check(&self) {
        let at = self.last();
        assert_eq!(self.visible(at), self.expected(at), "as of {at}");
    }
}

/// Returns key, value and index of each row.
pub(crate) fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let (keys, values) = (batch.column(0).as_binary::<i32>(), batch.column(1).as_string::<i32>());
    let index = batch.column_by_name(INDEX_COLUMN).expect("indexed").as_primitive::<UInt64Type>();
    let row = |n: usize| {
        let value = values.is_valid(n).then(|| values.value(n).to_owned());
        (keys.value(n).to_vec(), value, index.value(n))
    };
    (0..batch.num_rows()).map(row).collect()
}
