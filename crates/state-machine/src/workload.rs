//! Random command sequences for tests of stores and clusters: seeded, and aimed at what is there.
//!
//! It must not be used in production. Invariant: the same seed and the same states give the same
//! commands.

use alluvium_stdx::Prng;
use alluvium_types::{
    Append, Attest, AttestOutcome, Attested, Checkpoint, Command, Compact, DataType, DatasetKey,
    DatasetName, DatasetOptions, Drop, Envelope, Evolve, Expire, Field, FieldId, FileDigest,
    FileId, KeyBlockBuilder, KeyValue, LogIndex, OpenSession, Outcome, Register, Response,
    RowSource, Schema, SchemaChange, Seal, SessionRef, Stage, StageContent, Swept, Tombstone,
    TombstoneSource, UploadId, Upsert, codec::ALIGNMENT, encode_key,
};
use alluvium_types::{SchemaVersion, Sequence, SessionId};
use bytes::Bytes;

use crate::catalog;
use crate::record::{DatasetRecord, FileContent, FileRecord};
use crate::view::{View, ViewError};

/// Names that datasets get: few, so that they meet.
const NAMES: [&str; 4] = ["alder", "birch", "cedar", "data.x"];
/// Commands kept to be sent again.
const SENT_MAX: usize = 64;

/// A source of commands.
#[derive(Debug)]
pub struct Workload {
    prng: Prng,
    now_ms: u64,
    sessions: Vec<(SessionId, u64)>,
    sent: Vec<(Envelope, Bytes)>,
    upload: (u128, u32),
}

impl Workload {
    /// Returns the workload of a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let prng = Prng::from_seed(seed);
        Self { prng, now_ms: 1_000, sessions: Vec::new(), sent: Vec::new(), upload: (1, 0) }
    }

    /// Returns the next command, for the state that `view` shows and the entry at `index`.
    ///
    /// # Errors
    /// The view's.
    pub fn next(
        &mut self,
        view: &dyn View,
        index: LogIndex,
    ) -> Result<(Envelope, Bytes), ViewError> {
        self.now_ms += self.prng.below(200);
        if self.prng.one_in(8)
            && let Some(again) = self.prng.pick(&self.sent)
        {
            return Ok(again.clone());
        }
        let (command, body) = self.command(view, index)?;
        let sent = (self.envelope(command), body);
        if sent.0.session.is_some() {
            if self.sent.len() == SENT_MAX {
                self.sent.remove(0);
            }
            self.sent.push(sent.clone());
        }
        Ok(sent)
    }

    /// Learns from an answer which sessions are open.
    pub fn answered(&mut self, response: &Response) {
        if let Outcome::SessionOpened { session } = response.outcome {
            self.sessions.push((session, 0));
        }
    }

    fn envelope(&mut self, command: Command) -> Envelope {
        let place = self.prng.below(4);
        let place = usize::try_from(place).expect("below four");
        let session = self.sessions.get_mut(place).map(|(id, sequence)| {
            *sequence += 1;
            SessionRef { id: *id, sequence: Sequence(*sequence) }
        });
        let proposed_at_ms = self.now_ms;
        Envelope {
            session,
            actor: "workload".to_owned(),
            proposed_at_ms,
            expected_index: None,
            command,
        }
    }

    fn command(&mut self, view: &dyn View, index: LogIndex) -> Result<(Command, Bytes), ViewError> {
        let datasets = catalog::list(view, LogIndex::MAX)?;
        let Some(record) = self.prng.pick(&datasets).cloned() else {
            return Ok((self.register(), Bytes::new()));
        };
        let dataset = record.dataset;
        Ok(match self.prng.below(40) {
            0 => (Command::OpenSession(OpenSession { ttl_ms: 20_000 }), Bytes::new()),
            1 | 2 => (self.register(), Bytes::new()),
            3 => (self.evolve(&record), Bytes::new()),
            4..=7 => self.stage(&record),
            8..=15 => self.append(&record),
            16..=23 => self.upsert(&record),
            24..=27 => (self.tombstone(dataset), self.keys()),
            28 => (Command::Seal(Seal { dataset }), Bytes::new()),
            29..=31 => (self.compact(view, &record, index)?, Bytes::new()),
            32..=36 => (self.attest(view, dataset)?, Bytes::new()),
            37 => (self.expire(&record, index), Bytes::new()),
            38 => (swept(view, dataset)?, Bytes::new()),
            _ if self.prng.one_in(4) => (Command::Drop(Drop { dataset }), Bytes::new()),
            _ => (Command::Checkpoint(Checkpoint::Point), Bytes::new()),
        })
    }

    fn register(&mut self) -> Command {
        let name = self.prng.pick(&NAMES).expect("there are names");
        let name: DatasetName = name.parse().expect("the names are legal");
        let mut options = DatasetOptions::standard();
        options.seal_rows = 12;
        if self.prng.one_in(8) {
            options.seal_rows = 20;
        }
        let field = |name: &str, data_type, nullable| Field {
            id: FieldId(0),
            name: name.to_owned(),
            data_type,
            nullable,
        };
        let fields = vec![field("id", DataType::Int64, false), field("text", DataType::Utf8, true)];
        let schema = Schema { fields, key_columns: vec!["id".to_owned()] };
        Command::Register(Register { name, schema, bucket: "main".to_owned(), options })
    }

    fn evolve(&mut self, record: &DatasetRecord) -> Command {
        let name = format!("c{}", self.prng.below(6));
        let add = Field { id: FieldId(0), name, data_type: DataType::Int32, nullable: true };
        let column = format!("c{}", self.prng.below(6));
        let change = match self.prng.below(3) {
            0 => SchemaChange::Widen { column, to: DataType::Int64 },
            1 => SchemaChange::Drop { column },
            _ => SchemaChange::Add(add),
        };
        Command::Evolve(Evolve { dataset: record.dataset, changes: vec![change] })
    }

    fn stage(&mut self, record: &DatasetRecord) -> (Command, Bytes) {
        let (upload, part) = self.upload;
        let (dataset, schema_version) = (record.dataset, record.schema_version);
        if part > 0 && self.prng.one_in(3) {
            self.upload = (upload + 1, 0);
            let source =
                RowSource::Staged { upload: UploadId(upload), parts: part, content_hash: 0 };
            return (Command::Append(Append { dataset, schema_version, source }), Bytes::new());
        }
        self.upload.1 += 1;
        let rows = self.count();
        let content = StageContent::Rows { schema_version, rows };
        let stage = Stage { dataset, upload: UploadId(upload), part, content };
        (Command::Stage(stage), self.rows())
    }

    fn append(&mut self, record: &DatasetRecord) -> (Command, Bytes) {
        let body = self.rows();
        let rows_bytes = u32::try_from(body.len()).expect("a short body");
        let source = RowSource::Inline { rows: self.count(), rows_bytes };
        let (dataset, mut schema_version) = (record.dataset, record.schema_version);
        if self.prng.one_in(16) {
            schema_version = SchemaVersion(schema_version.0 + 1);
        }
        (Command::Append(Append { dataset, schema_version, source }), body)
    }

    fn upsert(&mut self, record: &DatasetRecord) -> (Command, Bytes) {
        let rows = self.rows();
        let rows_bytes = u32::try_from(rows.len()).expect("a short body");
        let keys = self.keys();
        let count = u32::from_le_bytes(keys[..4].try_into().expect("a block has a count"));
        let mut body = rows.to_vec();
        body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
        body.extend_from_slice(&keys);
        let source = RowSource::Inline { rows: count, rows_bytes };
        let (dataset, schema_version) = (record.dataset, record.schema_version);
        (Command::Upsert(Upsert { dataset, schema_version, source }), body.into())
    }

    fn tombstone(&mut self, dataset: DatasetKey) -> Command {
        let predicate = self.prng.one_in(2).then(|| "id < 7".to_owned());
        Command::Tombstone(Tombstone { dataset, source: TombstoneSource::Inline, predicate })
    }

    fn compact(
        &mut self,
        view: &dyn View,
        record: &DatasetRecord,
        index: LogIndex,
    ) -> Result<Command, ViewError> {
        let files = catalog::files(view, record.dataset, LogIndex::MAX)?;
        let mut inputs: Vec<FileId> = Vec::new();
        for file in files {
            let free = file.is_live() && file.reserved_by.is_none();
            if free && !self.prng.one_in(4) || self.prng.one_in(32) {
                inputs.push(file.file);
            }
        }
        let cutoff = LogIndex(index.0 - 1 - self.prng.below(3).min(index.0 - 1));
        Ok(Command::Compact(Compact { dataset: record.dataset, inputs, cutoff }))
    }

    fn attest(&mut self, view: &dyn View, dataset: DatasetKey) -> Result<Command, ViewError> {
        let files = catalog::files(view, dataset, LogIndex::MAX)?;
        let waiting = files.iter().find(|file| file.attested().is_none());
        let Some(file) = waiting.or_else(|| files.last()) else {
            return Ok(Command::Seal(Seal { dataset }));
        };
        let rows_hidden = match file.content {
            FileContent::Seal { .. } => 0,
            FileContent::Compaction { .. } => self.prng.below(file.rows_planned + 1),
        };
        let outcome = match (&file.content, self.prng.below(8)) {
            (_, 0) => AttestOutcome::Abandoned { reason: "test".to_owned() },
            (FileContent::Compaction { .. }, 1) => {
                AttestOutcome::Empty { rows_hidden: file.rows_planned }
            }
            _ => AttestOutcome::Written(Box::new(written(view, dataset, file, rows_hidden)?)),
        };
        Ok(Command::Attest(Attest { dataset, file: file.file, outcome }))
    }

    fn expire(&mut self, record: &DatasetRecord, index: LogIndex) -> Command {
        let room = (index.0 - 1).saturating_sub(record.floor.0);
        let floor = LogIndex(record.floor.0 + self.prng.below(room + 1));
        Command::Expire(Expire { dataset: record.dataset, floor })
    }

    fn count(&mut self) -> u32 {
        u32::try_from(1 + self.prng.below(5)).expect("a small number")
    }

    /// Bytes that stand for Arrow: apply does not look into them.
    fn rows(&mut self) -> Bytes {
        let length = 1 + self.prng.below(100);
        let mut bytes = vec![0; usize::try_from(length).expect("a small number")];
        self.prng.fill(&mut bytes);
        bytes.into()
    }

    fn keys(&mut self) -> Bytes {
        let mut builder = KeyBlockBuilder::default();
        for row in 0..=self.prng.below(4) {
            let number = i64::try_from(self.prng.below(10)).expect("a small number");
            let mut key = Vec::new();
            encode_key([KeyValue::Int(number)], &mut key);
            builder.push(key, row).expect("a short key");
        }
        builder.build_set().expect("few keys").as_bytes().clone()
    }
}

fn swept(view: &dyn View, dataset: DatasetKey) -> Result<Command, ViewError> {
    let waiting = catalog::sweepable(view)?;
    let (dataset, files) = match waiting.first() {
        Some((dataset, file, _)) => (*dataset, vec![*file]),
        None => (dataset, Vec::new()),
    };
    Ok(Command::Swept(Swept { dataset, files }))
}

/// Returns what a writer that hid `rows_hidden` rows of its inputs would attest.
///
/// # Errors
/// The view's.
pub fn written(
    view: &dyn View,
    dataset: DatasetKey,
    file: &FileRecord,
    rows_hidden: u64,
) -> Result<Attested, ViewError> {
    let (first_index, last_index) = match &file.content {
        FileContent::Seal { first, last } => (*first, *last),
        FileContent::Compaction { inputs, .. } => {
            let (mut first, mut last) = (LogIndex::MAX, LogIndex(0));
            for input in inputs {
                let input = catalog::file(view, dataset, *input, LogIndex::MAX)?;
                if let Some(attested) = input.as_ref().and_then(FileRecord::attested) {
                    first = first.min(attested.first_index);
                    last = last.max(attested.last_index);
                }
            }
            (first, last)
        }
    };
    let blake3 = *blake3::hash(&file.file.0.to_le_bytes()).as_bytes();
    let digest = FileDigest { len_bytes: 8, blake3, block_bytes: 8, blocks: vec![7] };
    Ok(Attested {
        digest,
        rows: file.rows_planned.saturating_sub(rows_hidden),
        rows_hidden,
        row_hash_sum: 0,
        first_index,
        last_index,
        stats: Vec::new(),
    })
}
