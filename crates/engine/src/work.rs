//! Tombstones, seals and compactions: commands whose effect the caller waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_materialize::FileContext;
use alluvium_rows::KeyEncoder;
use alluvium_state_machine::record::{FileContent, FileRecord, FileState, ResultRecord};
use alluvium_state_machine::{catalog, predicate_hash};
use alluvium_types::limits::{COMPACT_INPUTS_MAX, COMPACT_ROWS_MAX, UPLOAD_PARTS_MAX};
use alluvium_types::{
    Command, Compact, DatasetKey, ErrorKind, FileId, KeyBlock, LogIndex, Outcome, Rejection,
    Response, Seal, Stage, StageContent, Tombstone, TombstoneSource, UploadId,
};

use xxhash_rust::xxh3::Xxh3;

use crate::appender::upload_id;
use crate::jobs::Failure;
use crate::keys;
use crate::node::Node;
use crate::write::{Target, sequence_conflict};
use crate::{Caller, CompactReport, Error, SealReport, TombstoneKeys, Written};

/// How often a predicate is resolved anew when the dataset changes underneath.
const PREDICATE_TRIES_MAX: u32 = 16;
/// Bytes of the inputs of one compaction, so that its output stays below the limit of a file.
const COMPACT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// How long a member that does not lead waits for a file that the leader makes in a shared bucket, in nanoseconds.
const MADE_MAX_NS: u64 = 120_000_000_000;

impl Node {
    /// Hides the rows that have one of the keys and are there now.
    ///
    /// # Errors
    /// When the dataset has no key, a key is NULL or of another type, or a predicate cannot be resolved.
    pub async fn tombstone(
        &self,
        caller: &Caller,
        name: &str,
        keys: TombstoneKeys,
    ) -> Result<Written, Error> {
        let target = self.target(name).await?;
        if target.schema.key_columns.is_empty() {
            return Err(Error::Rejected(Rejection::Keyless));
        }
        match keys {
            TombstoneKeys::Predicate(predicate) => {
                self.tombstone_predicate(caller, name, &predicate).await
            }
            TombstoneKeys::Batches(batches) => {
                let blocks = keys::of_batches(&KeyEncoder::new(&target.schema)?, &batches)?;
                self.tombstone_keys(caller, &target, blocks, None).await
            }
            TombstoneKeys::Texts(texts) => {
                let blocks = keys::of_texts(&KeyEncoder::new(&target.schema)?, &texts)?;
                self.tombstone_keys(caller, &target, blocks, None).await
            }
        }
    }

    /// Resolves a predicate as [`Node::tombstone`] does, and proposes nothing: the count is that of the visible
    /// rows that it would hide.
    ///
    /// # Errors
    /// As for a tombstone by that predicate.
    pub async fn preview_tombstone(&self, name: &str, predicate: &str) -> Result<Written, Error> {
        let target = self.target(name).await?;
        if target.schema.key_columns.is_empty() {
            return Err(Error::Rejected(Rejection::Keyless));
        }
        let at = self.linearizable().await?;
        let _lease = self.lease(at);
        self.await_files(at, false).await?;
        let resolved = self.query().resolve_predicate(&target.record, at, predicate).await?;
        Ok(Written { index: at, count: resolved.rows })
    }

    /// Resolves a predicate at one index and proposes its keys on the condition that the dataset did not
    /// change since: the tombstone then hides exactly the rows that matched.
    async fn tombstone_predicate(
        &self,
        caller: &Caller,
        name: &str,
        predicate: &str,
    ) -> Result<Written, Error> {
        for _ in 0..PREDICATE_TRIES_MAX {
            let target = self.target(name).await?;
            if let Some(first) = self.recorded(caller).await? {
                let asked = predicate_hash(target.record.dataset, predicate);
                return answered(caller, first, asked);
            }
            let changed_at = catalog::counters(self.view(), target.record.dataset)?.changed_at;
            let at = self.linearizable().await?;
            let _lease = self.lease(at);
            self.await_files(at, false).await?;
            let resolved = self.query().resolve_predicate(&target.record, at, predicate).await?;
            let blocks = keys::blocks_of(resolved.keys)?;
            let mut conditional = caller.clone();
            conditional.expected_index = Some(caller.expected_index.unwrap_or(changed_at));
            let text = Some(predicate.to_owned());
            match self.tombstone_keys(&conditional, &target, blocks, text).await {
                Err(Error::Rejected(Rejection::ExpectedIndex { .. }))
                    if caller.expected_index.is_none() => {}
                other => return other,
            }
        }
        Err(Error::Contended { tries: PREDICATE_TRIES_MAX })
    }

    async fn tombstone_keys(
        &self,
        caller: &Caller,
        target: &Target,
        blocks: Vec<KeyBlock>,
        predicate: Option<String>,
    ) -> Result<Written, Error> {
        let dataset = target.record.dataset;
        let (source, body) = match blocks.as_slice() {
            [] => {
                self.check_unchanged(caller, dataset)?;
                return Ok(Written { index: self.applied(), count: 0 });
            }
            [block] => (TombstoneSource::Inline, block.as_bytes().clone()),
            blocks => {
                let source = self.stage_keys(caller, dataset, blocks, predicate.is_none()).await?;
                (source, crate::write::NO_BODY)
            }
        };
        let command = Command::Tombstone(Tombstone { dataset, source, predicate });
        let response = self.propose(caller, command, &body).await?;
        let Outcome::Tombstoned { keys } = response.outcome else {
            unreachable!("tombstone answered {:?}", response.outcome)
        };
        Ok(Written { index: response.index, count: keys })
    }

    /// Refuses a condition that does not hold, for a command that has nothing to propose.
    fn check_unchanged(&self, caller: &Caller, dataset: DatasetKey) -> Result<(), Error> {
        let Some(expected) = caller.expected_index else { return Ok(()) };
        let actual = catalog::counters(self.view(), dataset)?.changed_at;
        match expected == actual {
            true => Ok(()),
            false => Err(Error::Rejected(Rejection::ExpectedIndex { expected, actual })),
        }
    }

    async fn stage_keys(
        &self,
        caller: &Caller,
        dataset: DatasetKey,
        blocks: &[KeyBlock],
        has_fixed_keys: bool,
    ) -> Result<TombstoneSource, Error> {
        let parts = blocks.len();
        if parts > UPLOAD_PARTS_MAX as usize {
            let (value, limit) = (parts as u64, u64::from(UPLOAD_PARTS_MAX));
            return Err(Error::TooLarge { what: "one tombstone (in entries)", value, limit });
        }
        // A predicate's keys differ from try to try, so its parts are not those of an earlier one.
        let upload = match has_fixed_keys {
            true => upload_id(self, caller),
            false => UploadId(self.draw_id()),
        };
        let is_answered = has_fixed_keys && self.recorded(caller).await?.is_some();
        let unconditional = Caller::named(caller.actor.clone());
        let mut content = Xxh3::new();
        for (part, block) in blocks.iter().enumerate() {
            content.update(block.as_bytes());
            if is_answered {
                // Its parts are consumed: a retry proposes the command alone.
                continue;
            }
            let part = u32::try_from(part).expect("parts were just counted");
            let stage = Stage { dataset, upload, part, content: StageContent::Keys };
            self.propose(&unconditional, Command::Stage(stage), block.as_bytes()).await?;
        }
        let parts = u32::try_from(parts).expect("parts were just counted");
        Ok(TombstoneSource::Staged { upload, parts, content_hash: content.digest128() })
    }

    /// Cuts all unsealed rows into data files and waits until these are written and verified.
    ///
    /// # Errors
    /// When the dataset does not exist, or a file cannot be made (the node goes on trying).
    pub async fn seal(&self, caller: &Caller, name: &str) -> Result<SealReport, Error> {
        let dataset = self.target(name).await?.record.dataset;
        let response = self.propose(caller, Command::Seal(Seal { dataset }), &[]).await?;
        let Outcome::Sealed { file, rows } = response.outcome else {
            unreachable!("seal answered {:?}", response.outcome)
        };
        let index = match file {
            Some(file) => self.wait_made(dataset, file).await.map_err(Error::after_an_entry)?.0,
            None => response.index,
        };
        Ok(SealReport { index, files: file.into_iter().collect(), rows })
    }

    /// Seals, then rewrites files so that no hidden row and no foldable tombstone is left. When one file
    /// at most is there and nothing is hidden in it, there is nothing to do, and the report says zero.
    ///
    /// # Errors
    /// When the dataset does not exist, its expected index does not hold (also when there is nothing to do), or a
    /// file cannot be made; the inputs then stay as they are.
    pub async fn compact(&self, caller: &Caller, name: &str) -> Result<CompactReport, Error> {
        // The condition is of the whole call, so its first entry has it. It held for a call that was answered.
        let is_plan = |outcome: &Outcome| matches!(outcome, Outcome::CompactionPlanned { .. });
        let first = self.first_answer(caller, is_plan).await?;
        let expected_index = caller.expected_index.filter(|_| first.is_none());
        self.seal(&Caller { session: None, expected_index, ..caller.clone() }, name).await?;
        // The seal is in the log, so whatever comes now is no call that left nothing.
        self.compact_sealed(caller, name, first).await.map_err(Error::after_an_entry)
    }

    /// Compacts what is sealed, behind what `first` says that an earlier try of the same call planned.
    async fn compact_sealed(
        &self,
        caller: &Caller,
        name: &str,
        first: Option<Response>,
    ) -> Result<CompactReport, Error> {
        let dataset = self.target(name).await?.record.dataset;
        self.wait_planned(dataset).await?;
        let at = self.linearizable().await?;
        let groups = self.compaction_groups(dataset, at)?;
        let mut report = CompactReport {
            index: at,
            files_in: 0,
            files_out: 0,
            rows_in: 0,
            rows_hidden: 0,
            rows_out: 0,
            bytes_in: 0,
            bytes_out: 0,
        };
        let mut caller = caller.clone();
        if let Some(Outcome::CompactionPlanned { file }) = first.map(|first| first.outcome) {
            // The number was answered with the plan of the first group; this call goes on behind it.
            self.add_planned(dataset, file, &mut report)?;
            caller.session = None;
            caller.expected_index = None;
        }
        for inputs in groups {
            self.compact_group(&caller, dataset, &inputs, &mut report).await?;
            caller.session = None;
            caller.expected_index = None;
        }
        Ok(report)
    }

    /// Counts a compaction that an earlier try of the same call planned; it is made by now, or replaced itself.
    fn add_planned(
        &self,
        dataset: DatasetKey,
        file: FileId,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        let Some(made) = catalog::file(self.view(), dataset, file, LogIndex::MAX)? else {
            return Ok(());
        };
        let (FileContent::Compaction { inputs, .. }, Some(attested)) =
            (&made.content, made.attested())
        else {
            return Ok(());
        };
        report.files_in += inputs.len() as u64;
        report.files_out += 1;
        report.rows_in += attested.rows + attested.rows_hidden;
        report.rows_hidden += attested.rows_hidden;
        report.rows_out += attested.rows;
        report.bytes_out += attested.digest.len_bytes;
        for input in inputs {
            let input = catalog::file(self.view(), dataset, *input, LogIndex::MAX)?;
            let attested = input.as_ref().and_then(FileRecord::attested);
            report.bytes_in += attested.map_or(0, |attested| attested.digest.len_bytes);
        }
        Ok(())
    }

    async fn compact_group(
        &self,
        caller: &Caller,
        dataset: DatasetKey,
        inputs: &[FileRecord],
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        let cutoff = self.linearizable().await?;
        let files = inputs.iter().map(|input| input.file).collect();
        let command = Command::Compact(Compact { dataset, inputs: files, cutoff });
        let response = self.propose(caller, command, &[]).await?;
        let Outcome::CompactionPlanned { file } = response.outcome else {
            unreachable!("compact answered {:?}", response.outcome)
        };
        let (index, made) = self.wait_made(dataset, file).await?;
        if made.is_none() {
            self.check_replaced(dataset, file, inputs)?;
        }
        let attested = || inputs.iter().filter_map(FileRecord::attested);
        let rows_in: u64 = attested().map(|input| input.rows).sum();
        let output = made.as_ref().and_then(FileRecord::attested);
        let rows_out = output.map_or(0, |output| output.rows);
        report.index = index;
        report.files_in += inputs.len() as u64;
        report.files_out += u64::from(output.is_some());
        report.rows_in += rows_in;
        report.rows_out += rows_out;
        report.rows_hidden += rows_in - rows_out;
        report.bytes_in += attested().map(|input| input.digest.len_bytes).sum::<u64>();
        report.bytes_out += output.map_or(0, |output| output.digest.len_bytes);
        Ok(())
    }

    /// Tells a compaction that left no row, and so no file, from one that was given up.
    fn check_replaced(
        &self,
        dataset: DatasetKey,
        file: FileId,
        inputs: &[FileRecord],
    ) -> Result<(), Error> {
        if let Some(Failure { reason, kind, .. }) = self.jobs().abandoned(dataset, file) {
            return Err(Error::CompactionAbandoned { file, reason, kind });
        }
        for input in inputs {
            let record = catalog::file(self.view(), dataset, input.file, LogIndex::MAX)?;
            if record.is_some_and(|record| record.is_live()) {
                let reason = "its inputs are still live".to_owned();
                let kind = ErrorKind::Unavailable;
                return Err(Error::CompactionAbandoned { file, reason, kind });
            }
        }
        Ok(())
    }

    /// Groups live files, in order, into compactions that stay within the limits; leaves out a file that
    /// would be rewritten as it is.
    fn compaction_groups(
        &self,
        dataset: DatasetKey,
        at: LogIndex,
    ) -> Result<Vec<Vec<FileRecord>>, Error> {
        let newest = catalog::tombstones(self.view(), dataset, at)?.last().map(|(index, _)| *index);
        let mut groups: Vec<Vec<FileRecord>> = Vec::new();
        let mut room = (0_u64, 0_u64);
        let files = catalog::files(self.view(), dataset, at)?;
        for file in files.into_iter().filter(|file| file.reserved_by.is_none()) {
            let FileState::Live(attested) = &file.state else { continue };
            let (rows, bytes) = (attested.rows, attested.digest.len_bytes);
            match groups.last_mut() {
                Some(group)
                    if rows <= room.0 && bytes <= room.1 && group.len() < COMPACT_INPUTS_MAX =>
                {
                    room = (room.0 - rows, room.1 - bytes);
                    group.push(file);
                }
                _ => {
                    room = (
                        COMPACT_ROWS_MAX.saturating_sub(rows),
                        COMPACT_BYTES_MAX.saturating_sub(bytes),
                    );
                    groups.push(vec![file]);
                }
            }
        }
        groups.retain(|group| match group.as_slice() {
            [only] => has_foldable(only, newest),
            _ => true,
        });
        Ok(groups)
    }

    /// Waits until a planned file is live, or gone with its inputs; returns the index and the file.
    pub(crate) async fn wait_made(
        &self,
        dataset: DatasetKey,
        file: FileId,
    ) -> Result<(LogIndex, Option<FileRecord>), Error> {
        let mut rounds = self.jobs().rounds();
        self.jobs().wake();
        let until = self.clock().monotonic_ns().saturating_add(MADE_MAX_NS);
        loop {
            let index = self.applied();
            let record = catalog::file(self.view(), dataset, file, index)?;
            match record {
                Some(FileRecord { state: FileState::Planned, .. }) => {}
                made => return Ok((index, made)),
            }
            let failures: BTreeMap<_, _> = self.jobs().failures().into_iter().collect();
            if let Some(failure) = failures.get(&(dataset, file)) {
                let (reason, kind) = (failure.reason.clone(), failure.kind);
                return Err(Error::JobFailed { file, reason, kind });
            }
            let is_late = until <= self.clock().monotonic_ns() && !self.leads();
            if is_late && self.is_shared(dataset)? {
                // Into a shared bucket the leader writes, and only that one knows why it does not.
                let reason =
                    "the leader has not made it: see the job errors of its status".to_owned();
                return Err(Error::JobFailed { file, reason, kind: ErrorKind::Unavailable });
            }
            self.check_tasks()?;
            wait_round(&mut rounds).await?;
        }
    }

    /// Waits until no file of the dataset is planned.
    async fn wait_planned(&self, dataset: DatasetKey) -> Result<(), Error> {
        for (key, file) in catalog::planned(self.view())? {
            if key == dataset {
                self.wait_made(dataset, file).await?;
            }
        }
        Ok(())
    }

    /// Waits until no object of the dataset waits to be deleted, or a reader still holds one.
    pub(crate) async fn wait_swept(&self, dataset: DatasetKey) -> Result<(), Error> {
        let mut rounds = self.jobs().rounds();
        self.jobs().wake();
        loop {
            let oldest = self.leases().oldest().unwrap_or(LogIndex::MAX);
            let waiting = catalog::sweepable(self.view())?
                .into_iter()
                .filter(|(key, file, _)| !self.replica().is_gone((*key, *file)))
                .any(|(key, _, record)| key == dataset && record.since <= oldest);
            if !waiting {
                return Ok(());
            }
            self.check_tasks()?;
            wait_round(&mut rounds).await?;
            // Of a round that ended since the call: an older failure may have been mended.
            if let Some(Failure { reason, kind, .. }) = self.jobs().sweep_failure() {
                return Err(Error::SweepFailed { reason, kind });
            }
        }
    }

    /// Returns what a job needs to know of a dataset.
    pub(crate) fn file_context(&self, dataset: DatasetKey) -> Result<FileContext, Error> {
        let record = catalog::dataset(self.view(), dataset, LogIndex::MAX)?;
        let record =
            record.ok_or(Rejection::DatasetNotFound { dataset }).map_err(Error::Rejected)?;
        let bucket = self.bucket(&record.bucket)?;
        Ok(FileContext {
            dataset: record,
            bucket,
            view: self.shared_view(),
            log: self.log_source(),
        })
    }
}

/// Returns the first answer to a predicate's number.
fn answered(caller: &Caller, first: ResultRecord, asked: u128) -> Result<Written, Error> {
    let (index, outcome) = (first.response.index, first.response.outcome);
    if let Outcome::Rejected(rejection) = outcome {
        return Err(Error::Rejected(rejection));
    }
    if let Outcome::Tombstoned { keys } = outcome
        && first.payload_hash == asked
    {
        return Ok(Written { index, count: keys });
    }
    Err(sequence_conflict(caller))
}

fn has_foldable(file: &FileRecord, newest_tombstone: Option<LogIndex>) -> bool {
    newest_tombstone.is_some_and(|newest| newest > file.folded_to)
}

pub(crate) async fn wait_round(
    rounds: &mut tokio::sync::watch::Receiver<u64>,
) -> Result<(), Error> {
    // A bound, so that a lost wake-up costs time and never a hang.
    match tokio::time::timeout(Duration::from_millis(500), rounds.changed()).await {
        Ok(Err(_closed)) => Err(Error::TaskFailed { task: "jobs" }),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}
