//! Appends of any size: one entry when the rows fit, else parts that become visible together.

use alluvium_raft::Leadership;
use alluvium_rows::{KeyEncoder, Piece, slice_bytes, split};
use alluvium_types::limits::{BODY_BYTES_MAX, UPLOAD_PARTS_MAX};
use alluvium_types::{
    Append, Command, LogIndex, Outcome, Rejection, Response, RowSource, Stage, StageContent,
    UploadId, Upsert,
};
use arrow::record_batch::RecordBatch;
use xxhash_rust::xxh3::Xxh3;

use crate::keys;
use crate::node::Node;
use crate::write::Target;
use crate::{Caller, Error, Written};

/// Arrow bytes at which waiting batches become a part. Below a body, because one body must hold them.
const PART_BYTES: u64 = BODY_BYTES_MAX as u64 / 2;
/// Arrow bytes that one upsert may have: its rows are sorted by key in memory before they are proposed.
const UPSERT_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Collects batches that become visible together. Dropping it unfinished leaves nothing visible.
#[derive(Debug)]
pub struct Appender {
    node: Node,
    caller: Caller,
    name: String,
    upsert: bool,
    target: Option<Target>,
    /// Under which the target was read here without asking a quorum; none when one was asked.
    leadership: Option<Leadership>,
    waiting: Vec<RecordBatch>,
    waiting_bytes: u64,
    /// Rows that were pushed before the waiting ones, so that a bad row is named by its place among all.
    rows_before: usize,
    upload: Upload,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload {{ id: {}, parts: {} }}", self.id, self.parts)
    }
}

/// The parts that were proposed so far.
struct Upload {
    id: UploadId,
    parts: u32,
    content: Xxh3,
    /// The command was answered before: its parts are consumed, so a retry proposes only the command.
    answered: bool,
}

impl Appender {
    pub(crate) fn new(node: Node, caller: Caller, name: String, upsert: bool) -> Self {
        let id = upload_id(&node, &caller);
        let upload = Upload { id, parts: 0, content: Xxh3::new(), answered: false };
        Self {
            node,
            caller,
            name,
            upsert,
            target: None,
            leadership: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            rows_before: 0,
            upload,
        }
    }

    /// Adds rows. They are checked now and may already travel to the log, but nobody sees them yet.
    ///
    /// # Errors
    /// When the rows do not fit the dataset; the appender must then be dropped.
    pub async fn push(&mut self, batch: RecordBatch) -> Result<(), Error> {
        match self.take(batch).await {
            Err(error) => Err(self.told(error).await),
            taken => taken,
        }
    }

    async fn take(&mut self, batch: RecordBatch) -> Result<(), Error> {
        self.node.check_backlog()?;
        let schema = self.target().await?.schema.clone();
        let batch = alluvium_rows::conform(&batch, &schema)
            .map_err(|error| error.moved_by(self.rows_before + self.rows_waiting()))?;
        // Of the rows alone: a slice of a large batch holds all of its buffers, but sends few of them.
        self.waiting_bytes = self.waiting_bytes.saturating_add(slice_bytes(&batch));
        self.waiting.push(batch);
        if self.upsert && self.waiting_bytes > UPSERT_BYTES_MAX {
            let (value, limit) = (self.waiting_bytes, UPSERT_BYTES_MAX);
            return Err(Error::TooLarge { what: "one upsert", value, limit });
        }
        if !self.upsert && self.waiting_bytes > PART_BYTES {
            self.stage_waiting().await?;
        }
        Ok(())
    }

    /// Makes all rows visible at one index.
    ///
    /// # Errors
    /// When nothing was pushed, or the command was refused: then no row is visible. An ambiguous error
    /// means that they may be; with a session, the same append can be tried again.
    pub async fn finish(mut self) -> Result<Written, Error> {
        let mut parts = match self.cut().await {
            Ok(parts) => parts,
            Err(error) => return Err(self.told(error).await),
        };
        if 0 < self.upload.parts || 1 < parts.len() {
            self.stage(parts).await?;
            return self.propose_staged().await;
        }
        match parts.pop() {
            Some(piece) => self.propose_inline(piece).await,
            None => Err(self.told(Error::Rejected(Rejection::NoRows)).await),
        }
    }

    /// Cuts what waits into bodies.
    async fn cut(&mut self) -> Result<Vec<Piece>, Error> {
        self.target().await?;
        match (self.upload.parts, self.upsert) {
            (0, true) => self.split_waiting_by_key(),
            _ => self.split_waiting(),
        }
    }

    fn rows_waiting(&self) -> usize {
        self.waiting.iter().map(RecordBatch::num_rows).sum()
    }

    /// Finds the dataset. A leader looks at what it has applied and asks nobody: the entry that is proposed under the same
    /// leadership afterwards shows that nobody else had led until then.
    async fn target(&mut self) -> Result<&Target, Error> {
        if self.target.is_none() {
            let leadership = self.node.leadership();
            match leadership.map(|_leads| self.look_at(self.node.applied())) {
                Some(Ok(())) => self.leadership = leadership,
                // That it is not there, or cannot be read, is not said before the quorum was asked.
                Some(Err(_)) | None => {
                    let newest = self.node.linearizable().await?;
                    self.look_at(newest)?;
                }
            }
        }
        Ok(self.target.as_ref().expect("it was just set"))
    }

    fn look_at(&mut self, newest: LogIndex) -> Result<(), Error> {
        let answered = self.node.recorded_here(&self.caller)?;
        self.upload.answered = answered.is_some();
        // As the dataset was when the number was answered: the same rows are the same bytes then.
        let at = answered.map(|answered| answered.response.index);
        self.target = Some(self.node.target_at(&self.name, at, newest)?);
        Ok(())
    }

    /// Asks the quorum whether the target is what it was looked at as, unless it was asked already.
    async fn confirm(&mut self) -> Result<(), Error> {
        let Some(_leadership) = self.leadership.take() else { return Ok(()) };
        let before = self.target.take();
        let newest = self.node.linearizable().await?;
        self.look_at(newest)?;
        let identity = |target: &Target| (target.record.dataset, target.record.schema_version);
        match self.target.as_ref().map(identity) == before.as_ref().map(identity) {
            true => Ok(()),
            // Rows were checked against another schema; nothing was proposed.
            false => Err(alluvium_raft::Error::Unavailable.into()),
        }
    }

    /// Returns an error that was concluded from the target, if that is confirmed.
    async fn told(&mut self, error: Error) -> Error {
        self.confirm().await.err().unwrap_or(error)
    }

    async fn stage_waiting(&mut self) -> Result<(), Error> {
        let parts = self.split_waiting()?;
        self.stage(parts).await
    }

    /// Encodes the waiting rows into as few bodies as hold them.
    fn split_waiting(&mut self) -> Result<Vec<Piece>, Error> {
        let first_row = self.rows_before;
        match self.take_waiting()? {
            Some(batch) => Ok(split(&batch, None).map_err(|error| error.moved_by(first_row))?),
            None => Ok(Vec::new()),
        }
    }

    /// Encodes the waiting rows with their keys. Several parts are cut from rows sorted by key: each part's
    /// keys are above those of the part before, so the state machine can tell that no key occurs twice.
    fn split_waiting_by_key(&mut self) -> Result<Vec<Piece>, Error> {
        let target = self.target.clone().expect("finish found the target");
        if target.schema.key_columns.is_empty() {
            return Err(Error::Rejected(Rejection::Keyless));
        }
        let Some(batch) = self.take_waiting()? else { return Ok(Vec::new()) };
        let encoder = KeyEncoder::new(&target.schema)?;
        let sorted = keys::sort_unique(&encoder, &batch)?;
        let pieces = split(&batch, Some(&encoder))?;
        match pieces.len() {
            1 => Ok(pieces),
            _ => Ok(split(&sorted, Some(&encoder))?),
        }
    }

    fn take_waiting(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.waiting_bytes = 0;
        self.rows_before += self.rows_waiting();
        let batches = std::mem::take(&mut self.waiting);
        let Some(first) = batches.first() else { return Ok(None) };
        let schema = first.schema();
        let joined = arrow::compute::concat_batches(&schema, &batches)
            .map_err(alluvium_rows::Error::from)?;
        Ok((joined.num_rows() > 0).then_some(joined))
    }

    async fn stage(&mut self, pieces: Vec<Piece>) -> Result<(), Error> {
        self.confirm().await?;
        let target = self.target.clone().expect("push or finish found the target");
        for piece in pieces {
            let number = self.upload.parts;
            if number >= UPLOAD_PARTS_MAX {
                let (value, limit) = (u64::from(number) + 1, u64::from(UPLOAD_PARTS_MAX));
                return Err(Error::TooLarge { what: "one append (in entries)", value, limit });
            }
            self.upload.parts += 1;
            self.upload.content.update(&piece.body);
            if !self.upload.answered {
                let content = self.content_of(&piece, &target);
                let (dataset, upload) = (target.record.dataset, self.upload.id);
                let command = Command::Stage(Stage { dataset, upload, part: number, content });
                let caller = Caller::named(self.caller.actor.clone());
                match self.node.propose(&caller, command, &piece.body).await {
                    // An earlier try was answered since, and its command took the parts.
                    Err(Error::Rejected(Rejection::Upload { .. }))
                        if self.node.recorded(&self.caller).await?.is_some() =>
                    {
                        self.upload.answered = true;
                    }
                    proposed => drop(proposed?),
                }
            }
        }
        Ok(())
    }

    fn content_of(&self, piece: &Piece, target: &Target) -> StageContent {
        let schema_version = target.record.schema_version;
        match self.upsert {
            true => {
                let (rows, rows_bytes) = (piece.rows, piece.rows_bytes);
                StageContent::KeyedRows { schema_version, rows, rows_bytes }
            }
            false => StageContent::Rows { schema_version, rows: piece.rows },
        }
    }

    async fn propose_inline(self, piece: Piece) -> Result<Written, Error> {
        let source = RowSource::Inline { rows: piece.rows, rows_bytes: piece.rows_bytes };
        self.propose(source, &piece.body).await
    }

    async fn propose_staged(self) -> Result<Written, Error> {
        let (upload, parts) = (self.upload.id, self.upload.parts);
        let content_hash = self.upload.content.digest128();
        self.propose(RowSource::Staged { upload, parts, content_hash }, &[]).await
    }

    async fn propose(mut self, source: RowSource, body: &[u8]) -> Result<Written, Error> {
        let target = self.target.as_ref().expect("finish found the target");
        let (dataset, schema_version) = (target.record.dataset, target.record.schema_version);
        let command = match self.upsert {
            true => Command::Upsert(Upsert { dataset, schema_version, source }),
            false => Command::Append(Append { dataset, schema_version, source }),
        };
        let response = self.propose_once(command, body).await?;
        let (Outcome::Appended { rows } | Outcome::Upserted { rows }) = response.outcome else {
            unreachable!("append answered {:?}", response.outcome)
        };
        Ok(Written { index: response.index, count: rows })
    }

    async fn propose_once(&mut self, command: Command, body: &[u8]) -> Result<Response, Error> {
        if let Some(leadership) = self.leadership {
            let (node, caller) = (&self.node, &self.caller);
            let proposed = node.propose_under(leadership, caller, command.clone(), body).await?;
            if let Some(response) = proposed {
                return Ok(response);
            }
            self.confirm().await?;
        }
        self.node.propose(&self.caller, command, body).await
    }
}

/// Returns the upload's id: with a session the same for every try, so that parts are not stored twice.
pub(crate) fn upload_id(node: &Node, caller: &Caller) -> UploadId {
    match caller.session {
        Some((session, sequence)) => {
            let mut bytes = Vec::with_capacity(16);
            bytes.extend_from_slice(&session.0.to_le_bytes());
            bytes.extend_from_slice(&sequence.0.to_le_bytes());
            UploadId(xxhash_rust::xxh3::xxh3_128(&bytes))
        }
        None => UploadId(node.draw_id()),
    }
}
