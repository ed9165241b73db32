//! A lake in memory for tests: real apply, real seals and compactions, a log that can be purged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use alluvium_materialize::{FileContext, LogError, LogSource, compact, seal};
use alluvium_rows::{KeyEncoder, encode_body, join_keys};
use alluvium_state_machine::record::{AppliedEntry, DatasetRecord, FileContent, FileRecord};
use alluvium_state_machine::{
    BatchEntry, EntryContent, MemoryStore, MetaStore, View, apply_batch, catalog, payload_hash,
};
use alluvium_stdx::{ManualClock, Spawner};
use alluvium_storage::{Bucket, BucketKind};
use alluvium_types::{
    Append, Attest, Command, Compact, DataType, DatasetKey, DatasetOptions, Entry, Envelope,
    ErrorKind, Evolve, Expire, Field, FieldId, FileId, LogIndex, NodeId, Outcome, Register,
    RowSource, Schema, SchemaChange, Seal, Term, Tombstone, TombstoneSource, Upsert,
};

use crate::error::SharedError;
use crate::{
    BucketSource, Error, QueryConfig, QueryEngine, QueryRequest, QueryStream, Sources, SystemSource,
};

/// A log in memory. Entries below `first` are purged; one index may be made unreadable.
#[derive(Default)]
pub(crate) struct MemoryLog {
    entries: Mutex<Vec<Entry>>,
    first: AtomicU64,
    broken: AtomicU64,
}

impl MemoryLog {
    pub(crate) fn purge_below(&self, index: LogIndex) {
        self.first.store(index.0, Ordering::SeqCst);
    }

    pub(crate) fn break_at(&self, index: LogIndex) {
        self.broken.store(index.0, Ordering::SeqCst);
    }
}

impl LogSource for MemoryLog {
    fn entry(&self, index: LogIndex) -> Result<Entry, LogError> {
        if index.0 < self.first.load(Ordering::SeqCst) {
            return Err(LogError::Purged { index });
        }
        if index.0 == self.broken.load(Ordering::SeqCst) {
            return Err(LogError::Read {
                index,
                kind: ErrorKind::Corrupt,
                source: "a fault was planted".into(),
            });
        }
        let entries = self.entries.lock().expect("no test panics with it");
        let position = usize::try_from(index.0 - 1).expect("small");
        entries.get(position).cloned().ok_or(LogError::Purged { index })
    }
}

impl SystemSource for MemoryLog {
    fn log_bounds(&self) -> Result<Option<(LogIndex, LogIndex)>, SharedError> {
        let last = self.entries.lock().expect("no test panics with it").len() as u64;
        let first = self.first.load(Ordering::SeqCst).max(1);
        Ok((first <= last).then_some((LogIndex(first), LogIndex(last))))
    }

    fn term(&self, _index: LogIndex) -> Result<Option<Term>, SharedError> {
        Ok(Some(Term(1)))
    }
}

/// Threads of queries, as a node has them, and how many queries run on them.
#[derive(Debug)]
struct QueryThreads {
    running: watch::Sender<usize>,
}

impl Spawner for QueryThreads {
    fn task(&self, _name: &'static str, future: BoxFuture<'static, ()>) {
        static THREADS: OnceLock<Runtime> = OnceLock::new();
        let start = || Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let threads = THREADS.get_or_init(|| start().expect("a runtime"));
        self.running.send_modify(|running| *running += 1);
        let ended = Ended(self.running.clone());
        #[expect(clippy::disallowed_methods, reason = "the threads of a test")]
        drop(threads.spawn(async move {
            let _ended = ended;
            future.await;
        }));
    }
}

/// Counts a query as ended when it is dropped.
struct Ended(watch::Sender<usize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

struct OneBucket(Arc<Bucket>);

impl BucketSource for OneBucket {
    fn bucket(&self, name: &str) -> Option<Arc<Bucket>> {
        (name == self.0.name()).then(|| Arc::clone(&self.0))
    }
}

/// The whole lake.
pub(crate) struct Lake {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) objects: Arc<InMemory>,
    bucket: Arc<Bucket>,
    pub(crate) engine: QueryEngine,
    /// How many queries run.
    pub(crate) queries: watch::Receiver<usize>,
    pub(crate) at: LogIndex,
    _spill: tempfile::TempDir,
}

pub(crate) fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field { id: FieldId(0), name: name.to_owned(), data_type, nullable }
}

/// `id` is the key; `n` and `v` may be NULL.
pub(crate) fn keyed_schema() -> Schema {
    let fields = vec![
        field("id", DataType::Int64, false),
        field("n", DataType::Int32, true),
        field("v", DataType::Utf8, true),
    ];
    Schema { fields, key_columns: vec!["id".to_owned()] }
}

/// The bucket of every test dataset.
pub(crate) const BUCKET: &str = "primary";

impl Lake {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, |view| view)
    }

    /// A lake whose engine is configured, and reads its metadata through a wrapper.
    pub(crate) fn with(
        configure: impl FnOnce(&mut QueryConfig),
        wrap: impl FnOnce(Arc<dyn View + Send + Sync>) -> Arc<dyn View + Send + Sync>,
    ) -> Self {
        let store = Arc::new(MemoryStore::new());
        let log = Arc::new(MemoryLog::default());
        let objects = Arc::new(InMemory::new());
        let dynamic: Arc<dyn ObjectStore> = Arc::clone(&objects) as Arc<dyn ObjectStore>;
        let bucket = Arc::new(Bucket::over(BUCKET, dynamic, BucketKind::PerNode));
        let spill = tempfile::tempdir().expect("a directory");
        let mut config = QueryConfig {
            memory_bytes: 256 << 20,
            spill_dir: spill.path().to_owned(),
            target_partitions: 2,
            default_timeout_ms: 60_000,
            tombstone_cache_bytes: 16 << 20,
            delta_cache_bytes: 16 << 20,
        };
        configure(&mut config);
        let sources = Sources {
            view: wrap(Arc::clone(&store) as Arc<dyn View + Send + Sync>),
            log: Arc::clone(&log) as Arc<dyn LogSource>,
            buckets: Arc::new(OneBucket(Arc::clone(&bucket))),
            system: Arc::clone(&log) as Arc<dyn SystemSource>,
            clock: Arc::new(ManualClock::starting_at(1_000)),
        };
        let (running, queries) = watch::channel(0);
        let engine = QueryEngine::new(config, sources, Arc::new(QueryThreads { running }))
            .expect("an engine");
        let at = LogIndex(0);
        Self { store, log, objects, bucket, engine, queries, at, _spill: spill }
    }

    pub(crate) fn propose(&mut self, command: Command, body: Bytes) -> Outcome {
        self.at = self.at.next();
        let (entry, outcome) = apply(&self.store, self.at, command, &body);
        self.log.entries.lock().expect("no test panics with it").push(entry);
        outcome
    }

    pub(crate) fn expire(&mut self, dataset: DatasetKey, floor: LogIndex) {
        let outcome = self.propose(Command::Expire(Expire { dataset, floor }), Bytes::new());
        assert!(matches!(outcome, Outcome::Expired { more: false, .. }), "{outcome:?}");
    }

    pub(crate) fn register(&mut self, name: &str, schema: Schema) -> DatasetKey {
        let options = DatasetOptions::standard();
        let name = name.parse().expect("a legal name");
        let register = Register { name, schema, bucket: BUCKET.to_owned(), options };
        let outcome = self.propose(Command::Register(register), Bytes::new());
        let Outcome::Registered { dataset, .. } = outcome else { panic!("{outcome:?}") };
        dataset
    }

    pub(crate) fn record(&self, dataset: DatasetKey) -> DatasetRecord {
        let found = catalog::dataset(self.store.as_ref(), dataset, LogIndex::MAX);
        found.expect("readable").expect("registered")
    }

    pub(crate) fn schema(&self, dataset: DatasetKey) -> Schema {
        let record = self.record(dataset);
        catalog::schema(self.store.as_ref(), dataset, record.schema_version, LogIndex::MAX)
            .expect("readable")
    }

    /// Returns a batch of the dataset's current schema.
    fn conform(&self, dataset: DatasetKey, batch: &RecordBatch) -> RecordBatch {
        alluvium_rows::conform(batch, &self.schema(dataset)).expect("rows fit")
    }

    pub(crate) fn append(&mut self, dataset: DatasetKey, batch: &RecordBatch) -> LogIndex {
        let batch = self.conform(dataset, batch);
        let body = encode_body(&batch).expect("encodes");
        let schema_version = self.record(dataset).schema_version;
        let rows = u32::try_from(batch.num_rows()).expect("small");
        let rows_bytes = u32::try_from(body.len()).expect("small");
        let source = RowSource::Inline { rows, rows_bytes };
        let append = Command::Append(Append { dataset, schema_version, source });
        let outcome = self.propose(append, body);
        assert!(matches!(outcome, Outcome::Appended { .. }), "{outcome:?}");
        self.at
    }

    pub(crate) fn upsert(&mut self, dataset: DatasetKey, batch: &RecordBatch) -> LogIndex {
        let batch = self.conform(dataset, batch);
        let keys = KeyEncoder::new(&self.schema(dataset)).expect("keyed");
        let rows_body = encode_body(&batch).expect("encodes");
        let body = join_keys(&rows_body, &keys.unique_key_block(&batch).expect("unique"));
        let schema_version = self.record(dataset).schema_version;
        let rows = u32::try_from(batch.num_rows()).expect("small");
        let rows_bytes = u32::try_from(rows_body.len()).expect("small");
        let source = RowSource::Inline { rows, rows_bytes };
        let upsert = Command::Upsert(Upsert { dataset, schema_version, source });
        let outcome = self.propose(upsert, body);
        assert!(matches!(outcome, Outcome::Upserted { .. }), "{outcome:?}");
        self.at
    }

    /// Hides the keys of a batch's rows.
    pub(crate) fn tombstone(&mut self, dataset: DatasetKey, keys: &RecordBatch) -> LogIndex {
        let encoder = KeyEncoder::new(&self.schema(dataset)).expect("keyed");
        let block = encoder.key_block(keys).expect("keys");
        let source = TombstoneSource::Inline;
        let tombstone = Command::Tombstone(Tombstone { dataset, source, predicate: None });
        let outcome = self.propose(tombstone, block.as_bytes().clone());
        assert!(matches!(outcome, Outcome::Tombstoned { .. }), "{outcome:?}");
        self.at
    }

    pub(crate) fn evolve(&mut self, dataset: DatasetKey, change: SchemaChange) {
        let evolve = Command::Evolve(Evolve { dataset, changes: vec![change] });
        let outcome = self.propose(evolve, Bytes::new());
        assert!(matches!(outcome, Outcome::Evolved { .. }), "{outcome:?}");
    }

    /// Plans a seal and makes its file; nothing when there is nothing to seal.
    pub(crate) async fn seal(&mut self, dataset: DatasetKey) -> Option<FileId> {
        let planned = self.plan_seal(dataset)?;
        self.make(dataset, planned).await;
        Some(planned)
    }

    pub(crate) fn plan_seal(&mut self, dataset: DatasetKey) -> Option<FileId> {
        let outcome = self.propose(Command::Seal(Seal { dataset }), Bytes::new());
        let Outcome::Sealed { file, .. } = outcome else { panic!("{outcome:?}") };
        file
    }

    pub(crate) fn live_files(&self, dataset: DatasetKey) -> Vec<FileRecord> {
        let files = catalog::files(self.store.as_ref(), dataset, LogIndex::MAX);
        files.expect("readable").into_iter().filter(FileRecord::is_live).collect()
    }

    /// Compacts all live files, with every tombstone folded; nothing when there is nothing to do.
    pub(crate) async fn compact(&mut self, dataset: DatasetKey) -> Option<FileId> {
        let inputs = self.live_files(dataset).iter().map(|file| file.file).collect();
        let command = Command::Compact(Compact { dataset, inputs, cutoff: self.at });
        let outcome = self.propose(command, Bytes::new());
        let Outcome::CompactionPlanned { file } = outcome else { return None };
        self.make(dataset, file).await;
        Some(file)
    }

    /// Makes the files that evolve planned.
    pub(crate) async fn make_planned(&mut self) {
        for (dataset, file) in catalog::planned(self.store.as_ref()).expect("readable") {
            self.make(dataset, file).await;
        }
    }

    /// Makes a planned file and attests it.
    pub(crate) async fn make(&mut self, dataset: DatasetKey, file: FileId) {
        let plan = catalog::file(self.store.as_ref(), dataset, file, LogIndex::MAX);
        let plan = plan.expect("readable").expect("planned");
        let context = FileContext {
            dataset: self.record(dataset),
            bucket: self.bucket.as_ref().clone(),
            view: Arc::clone(&self.store) as Arc<dyn View + Send + Sync>,
            log: Arc::clone(&self.log) as Arc<dyn LogSource>,
        };
        let outcome = match plan.content {
            FileContent::Seal { .. } => seal(&context, &plan).await,
            FileContent::Compaction { .. } => compact(&context, &plan).await,
        };
        let outcome = outcome.expect("the file is made");
        let attest = Command::Attest(Attest { dataset, file, outcome });
        let outcome = self.propose(attest, Bytes::new());
        assert!(matches!(outcome, Outcome::Attested { .. }), "{outcome:?}");
    }

    pub(crate) async fn start(&self, sql: &str) -> Result<QueryStream, Error> {
        self.engine.run(sql, QueryRequest::at(self.at)).await
    }

    pub(crate) async fn try_sql(&self, sql: &str) -> Result<Vec<RecordBatch>, Error> {
        self.start(sql).await?.collect().await
    }

    /// Returns the answer's rows as text, sorted; cells are separated by a bar.
    pub(crate) async fn sql(&self, sql: &str) -> Vec<String> {
        let batches = self.try_sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        lines(&batches)
    }

    pub(crate) async fn error(&self, sql: &str) -> Error {
        self.try_sql(sql).await.expect_err(sql)
    }
}

/// Applies one command to a store as the entry at `at`.
pub(crate) fn apply(
    store: &MemoryStore,
    at: LogIndex,
    command: Command,
    body: &Bytes,
) -> (Entry, Outcome) {
    let envelope = Envelope {
        session: None,
        actor: "test".to_owned(),
        proposed_at_ms: 1_000 + at.0,
        expected_index: None,
        command,
    };
    let payload_hash = payload_hash(&envelope.command, body);
    let content = EntryContent::Command { envelope: &envelope, body, payload_hash };
    let id = AppliedEntry { term: 1, leader: NodeId(1), index: at };
    let mut applied = apply_batch(store, &[BatchEntry { id, content }]).expect("applies");
    store.commit(applied.commit).expect("commits");
    let entry = Entry::command(&envelope, body).expect("an entry");
    (entry, applied.responses.pop().flatten().expect("a response").outcome)
}

/// Returns rows as sorted text.
pub(crate) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).expect("printable").to_string();
    let row = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join("|")
    };
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(1);
    let mut rows: Vec<String> = rows.map(row).collect();
    rows.sort();
    rows
}
