//! What callers give a node and what they get back. No behaviour lives here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_types::{
    DatasetKey, DatasetName, DatasetOptions, FileId, LogIndex, Recipe, SchemaVersion, Sequence,
    SessionId,
};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use object_store::ObjectStore;

use crate::cluster::PeerConfig;
use crate::machine::{Machine, RealMachine};
use crate::membership::Member;
use crate::reinstall::Reinstall;

/// How a node is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory that holds everything of this node: log, metadata, snapshots, local buckets.
    pub data_dir: PathBuf,
    /// The node's id: a directory of another one is refused, and a new one becomes this node's. Nothing takes the
    /// directory's; for a new one that of the certificate, the next free one of the cluster, or 1.
    pub node_id: Option<u64>,
    /// Bytes that one query may hold in memory before it spills.
    pub query_memory_bytes: usize,
    /// How long a statement may run when the caller gives no limit.
    pub statement_timeout: Duration,
    /// Bytes of log at which datasets with old unsealed rows are sealed, so that the log can be purged.
    pub log_bytes_max: u64,
    /// Bytes of a log segment. It must hold the largest entry that any member writes, which is 8 MiB: a node that cannot
    /// put an entry into its log stops.
    pub segment_bytes: u64,
    /// The pause between two scrubs, which read everything again.
    pub scrub_every: Duration,
    /// Bytes of data files that a scrub reads in a second.
    pub scrub_bytes_per_second: u64,
    /// The longest time between two comparisons of the states of all replicas.
    pub compare_every: Duration,
    /// What the node does when its state is found to differ from that of the others.
    pub reinstall: Reinstall,
    /// How the node takes part in a cluster; without it, it is alone.
    pub peer: Option<PeerConfig>,
    /// Buckets that all members see, under the same name and with the same content at each: one of them writes a file, and
    /// the others check it. See [`crate::open_s3`].
    pub shared_buckets: BTreeMap<String, Arc<dyn ObjectStore>>,
    /// The machine below: clock, chance, disk, object stores.
    pub machine: Arc<dyn Machine>,
}

impl Config {
    /// Returns the configuration of a single node that lives in `data_dir`.
    #[must_use]
    pub fn single(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            node_id: None,
            query_memory_bytes: 1024 * 1024 * 1024,
            statement_timeout: Duration::from_secs(300),
            log_bytes_max: 1024 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
            scrub_every: Duration::from_secs(24 * 60 * 60),
            scrub_bytes_per_second: 16 * 1024 * 1024,
            compare_every: Duration::from_secs(10),
            reinstall: Reinstall::default(),
            peer: None,
            shared_buckets: BTreeMap::new(),
            machine: Arc::new(RealMachine::default()),
        }
    }
}

/// Who calls, under which session, and on which condition.
///
/// Without a session a lost reply is ambiguous: a retry may take effect twice.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Who it is, for the log.
    pub actor: String,
    /// The session and the number of this command; a retry carries the same.
    pub session: Option<(SessionId, Sequence)>,
    /// The dataset must last have changed at this index (zero: must not exist).
    pub expected_index: Option<LogIndex>,
}

impl Caller {
    /// Returns a caller with a name and nothing else.
    #[must_use]
    pub fn named(actor: impl Into<String>) -> Self {
        Self { actor: actor.into(), session: None, expected_index: None }
    }
}

/// How a dataset is registered.
#[derive(Debug, Clone)]
pub struct RegisterOptions {
    /// Names of the key columns; empty for a keyless dataset.
    pub key_columns: Vec<String>,
    /// The bucket of its files.
    pub bucket: String,
    /// How its files are written and cut.
    pub options: DatasetOptions,
}

impl RegisterOptions {
    /// Returns the options of a dataset in the default bucket with the given key columns.
    #[must_use]
    pub fn keyed(key_columns: &[&str]) -> Self {
        Self {
            key_columns: key_columns.iter().map(|&name| name.to_owned()).collect(),
            bucket: DEFAULT_BUCKET.to_owned(),
            options: DatasetOptions::standard(),
        }
    }

    /// Returns the same with another recipe.
    #[must_use]
    pub fn with_recipe(mut self, recipe: Recipe) -> Self {
        self.options.recipe = recipe;
        self
    }
}

/// The bucket that every node has: a directory within its data directory.
pub const DEFAULT_BUCKET: &str = "local";

/// The answer to a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The dataset's identity.
    pub dataset: DatasetKey,
    /// Its current schema.
    pub schema_version: SchemaVersion,
    /// Whether it was there before, with the same schema and options.
    pub existing: bool,
    /// Readers at this index or above see it.
    pub index: LogIndex,
}

/// The answer to an append, upsert, tombstone, evolve, expire or drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Readers at this index or above see the effect.
    pub index: LogIndex,
    /// Rows added, distinct keys hidden, or metadata versions pruned.
    pub count: u64,
}

/// The answer to a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealReport {
    /// Readers at this index or above see the file.
    pub index: LogIndex,
    /// Files written, in order; empty when there was nothing to seal.
    pub files: Vec<FileId>,
    /// Rows in them.
    pub rows: u64,
}

/// The answer to a compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactReport {
    /// Readers at this index or above see the result.
    pub index: LogIndex,
    /// Files that were rewritten.
    pub files_in: u64,
    /// Files that replaced them.
    pub files_out: u64,
    /// Rows read.
    pub rows_in: u64,
    /// Rows that tombstones hid: they are in no file that replaced the inputs.
    pub rows_hidden: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

/// The keys that a tombstone names.
#[derive(Debug, Clone)]
pub enum TombstoneKeys {
    /// Batches that have exactly the key columns, in key order.
    Batches(Vec<RecordBatch>),
    /// One text per key column and key, parsed by the columns' types.
    Texts(Vec<Vec<String>>),
    /// A predicate over the dataset's columns, resolved to keys by the proposer.
    Predicate(String),
}

/// What a query reads and may use.
#[derive(Debug, Clone, Default)]
pub struct SqlOptions {
    /// Read as of this index instead of the newest.
    pub as_of: Option<LogIndex>,
    /// Wait until at least this index is applied.
    pub at_least: Option<LogIndex>,
    /// Answer from what this node has applied, without asking the quorum.
    pub local: bool,
    /// How far the answer may be behind what is acknowledged: a node that asked the leader within that time answers by
    /// itself, any other asks it first. It says nothing when `local` is set.
    pub max_stale: Option<Duration>,
    /// A shorter or longer time limit than the node's.
    pub timeout: Option<Duration>,
    /// A smaller or larger memory limit than the node's.
    pub memory_bytes: Option<usize>,
    /// Rows after which the answer ends with an error.
    pub row_limit: Option<u64>,
}

/// A dataset as the catalog shows it.
#[derive(Debug, Clone)]
pub struct DatasetInfo {
    /// Its name.
    pub name: DatasetName,
    /// Its identity.
    pub dataset: DatasetKey,
    /// The number of its schema.
    pub schema_version: SchemaVersion,
    /// Its columns.
    pub schema: SchemaRef,
    /// Its key columns.
    pub key_columns: Vec<String>,
    /// The bucket of its files.
    pub bucket: String,
    /// The index of the last change that a user asked for; `index`, when it changed since then.
    pub changed_at: LogIndex,
    /// Reads below it are refused.
    pub floor: LogIndex,
    /// Live data files.
    pub files: u64,
    /// Bytes of them.
    pub file_bytes: u64,
    /// Rows of them, hidden ones included.
    pub file_rows: u64,
    /// Deltas: appends whose rows are still read from the log.
    pub deltas: u64,
    /// Rows of them.
    pub delta_rows: u64,
    /// Tombstone entries that no compaction has folded away.
    pub tombstones: u64,
    /// The index that this was read at.
    pub index: LogIndex,
}

/// How a node is doing.
#[derive(Debug, Clone)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// This node.
    pub node_id: u64,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// The members of the cluster.
    pub members: Vec<Member>,
    /// The Raft term.
    pub term: u64,
    /// First and last index of the log.
    pub log: (LogIndex, LogIndex),
    /// Bytes of log segments.
    pub log_bytes: u64,
    /// The committed index.
    pub committed: LogIndex,
    /// The applied index.
    pub applied: LogIndex,
    /// The applied index that survives a power cut without replay.
    pub durable: LogIndex,
    /// The index of the latest snapshot.
    pub snapshot: Option<LogIndex>,
    /// The state digest at the applied index.
    pub digest: String,
    /// The newest checkpoint at which this node's digest was found to be that of the majority, since it was opened.
    pub agreed_at: Option<LogIndex>,
    /// Why the node is in quarantine, if it is: it answers nothing from its state.
    pub quarantine: Option<String>,
    /// Live datasets.
    pub datasets: u64,
    /// Files planned and not yet attested.
    pub jobs: u64,
    /// Attested files that this node does not have yet.
    pub files_missing: u64,
    /// Jobs that fail and are being retried: what, and why.
    pub job_errors: Vec<String>,
    /// Scrubs that ended since the node was opened.
    pub scrubs: u64,
    /// What the last scrub found damaged.
    pub damage: Vec<String>,
}

/// One decoded log entry, as `log tail` and `system.log` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its index.
    pub index: LogIndex,
    /// `blank`, `membership`, or the command's name.
    pub kind: String,
    /// The dataset it names, by identity.
    pub dataset: Option<String>,
    /// Who asked.
    pub actor: Option<String>,
    /// The session and number.
    pub session: Option<(u64, u64)>,
    /// The leader's clock when it was proposed.
    pub proposed_at_ms: Option<u64>,
    /// Rows or keys that it carries.
    pub rows: Option<u64>,
    /// Bytes of the entry.
    pub bytes: u64,
    /// The command in words.
    pub detail: String,
}

/// What `verify` looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The applied index it was done at.
    pub index: LogIndex,
    /// The digest that the node keeps.
    pub digest_kept: String,
    /// The digest recomputed from every stored key and value.
    pub digest_recomputed: String,
    /// Log entries read and checked.
    pub entries: u64,
    /// Data files read whole and checked against their attested hashes.
    pub files: u64,
    /// Rows whose hashes were summed and compared.
    pub rows: u64,
    /// What is wrong, one sentence each, naming the object. Empty when all is well.
    pub damage: Vec<String>,
    /// What the next opening would do of its own accord, such as cut a write that was torn; no damage. Empty for a
    /// node that is open: it did that.
    pub notices: Vec<String>,
}
