//! Compaction: data files become one, without the rows that tombstones up to a cutoff hide.
//!
//! It must not change a row's index, or look at metadata newer than its plan: a tombstone that arrives
//! meanwhile has an index above the cutoff and is applied by readers. Invariant INV-F2: rows in as the log attests
//! them, minus rows hidden, are the rows out, by count and by hash sum of what was read back.

use alluvium_parquet::Projection;
use alluvium_rows::{KeyEncoder, adapt};
use alluvium_state_machine::catalog;
use alluvium_state_machine::record::{FileContent, FileRecord};
use alluvium_types::{AttestOutcome, Attested, FileId, LogIndex, Schema};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use roaring::RoaringBitmap;

use crate::context::{FileContext, storage_digest};
use crate::error::{Error, Sums};
use crate::publish::{Output, hashes, parquet, read_attested, read_back};
use crate::tombstones::TombstoneIndex;

/// Makes a planned compaction: writes the output, reads it back, and returns what to attest; `Empty` when no
/// row is left. Memory is bounded by the output and by one input.
///
/// # Errors
/// An input that is missing or damaged; [`Error::Conservation`]; as [`crate::seal`] else.
pub async fn compact(context: &FileContext, plan: &FileRecord) -> Result<AttestOutcome, Error> {
    let FileContent::Compaction { inputs, cutoff } = &plan.content else {
        return Err(Error::Plan { file: plan.file });
    };
    let at = LogIndex(plan.file.0);
    let schema = catalog::schema(context.view.as_ref(), context.key(), plan.schema_version, at)?;
    let tombstones = tombstones(context, &schema, *cutoff, at)?;
    let output = Output::new(context, plan, &schema)?;
    let mut rewrite = Rewrite::new(plan, *cutoff, tombstones, output);
    let inputs: Vec<(FileRecord, Attested)> =
        inputs.iter().map(|input| live_input(context, plan, *input)).collect::<Result<_, _>>()?;
    for (record, attested) in &inputs {
        let from =
            catalog::schema(context.view.as_ref(), context.key(), record.schema_version, at)?;
        rewrite.input(context, (record, attested), (&from, &schema)).await?;
    }
    match rewrite.finish(context).await {
        Err(error @ Error::Conservation { .. }) => Err(blame(context, &inputs, error).await),
        outcome => outcome,
    }
}

/// Returns the error of the input that does not hold the rows which the log attests, if that is why the rows
/// do not add up.
async fn blame(context: &FileContext, inputs: &[(FileRecord, Attested)], error: Error) -> Error {
    for (record, attested) in inputs {
        let expected = Sums { rows: attested.rows, hash_sum: attested.row_hash_sum };
        let digest = storage_digest(&attested.digest);
        match read_back(context, record, &digest, attested.rows).await {
            Ok(found) if found == expected => {}
            Ok(found) => return Error::Differs { file: record.file, expected, found },
            Err(unreadable) => return unreadable,
        }
    }
    error
}

/// What hides rows of a keyed dataset; none for a keyless one.
struct Folded {
    keys: KeyEncoder,
    index: TombstoneIndex,
}

fn tombstones(
    context: &FileContext,
    schema: &Schema,
    cutoff: LogIndex,
    at: LogIndex,
) -> Result<Option<Folded>, Error> {
    if schema.key_columns.is_empty() {
        return Ok(None);
    }
    let mut blocks = catalog::tombstones(context.view.as_ref(), context.key(), at)?;
    blocks.retain(|(index, _)| *index <= cutoff);
    let index = TombstoneIndex::from_blocks(&blocks);
    Ok(Some(Folded { keys: KeyEncoder::new(schema)?, index }))
}

fn live_input(
    context: &FileContext,
    plan: &FileRecord,
    input: FileId,
) -> Result<(FileRecord, Attested), Error> {
    let at = LogIndex(plan.file.0);
    let record = catalog::file(context.view.as_ref(), context.key(), input, at)?;
    let missing = Error::Input { file: plan.file, input };
    let Some(record) = record.filter(FileRecord::is_live) else { return Err(missing) };
    let Some(attested) = record.attested().cloned() else { return Err(missing) };
    Ok((record, attested))
}

struct Rewrite<'a> {
    plan: &'a FileRecord,
    cutoff: LogIndex,
    tombstones: Option<Folded>,
    output: Output<'a>,
    rows_in: Sums,
    hidden: Sums,
}

impl<'a> Rewrite<'a> {
    fn new(
        plan: &'a FileRecord,
        cutoff: LogIndex,
        tombstones: Option<Folded>,
        output: Output<'a>,
    ) -> Self {
        let (rows_in, hidden) = (Sums::default(), Sums::default());
        Self { plan, cutoff, tombstones, output, rows_in, hidden }
    }

    /// Copies the visible rows of one input. What the input held is known from the log, so its rows are hashed
    /// only when they change with their schema.
    async fn input(
        &mut self,
        context: &FileContext,
        (record, attested): (&FileRecord, &Attested),
        (from, to): (&Schema, &Schema),
    ) -> Result<(), Error> {
        let bytes = read_attested(context, record, attested).await?;
        let is_adapted = from != to;
        let expected = Sums { rows: attested.rows, hash_sum: attested.row_hash_sum };
        let mut read = Sums { rows: 0, hash_sum: if is_adapted { 0 } else { expected.hash_sum } };
        let batches = alluvium_parquet::open(bytes, &Projection::All);
        for batch in batches.map_err(|source| parquet(record, source))? {
            let batch = batch.map_err(|source| parquet(record, source))?;
            let rows = adapt(&batch, from, to)?;
            if is_adapted {
                read.add(&hashes(record, &batch)?);
                self.rows_in.add(&hashes(self.plan, &rows)?);
            } else {
                read.rows += rows.num_rows() as u64;
            }
            self.copy(&rows)?;
        }
        if read != expected {
            return Err(Error::Differs { file: record.file, expected, found: read });
        }
        if !is_adapted {
            self.rows_in.rows += expected.rows;
            self.rows_in.hash_sum = self.rows_in.hash_sum.wrapping_add(expected.hash_sum);
        }
        Ok(())
    }

    fn copy(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let hidden = match &self.tombstones {
            Some(folded) => folded.index.resolve(&folded.keys, rows, self.cutoff)?,
            None => RoaringBitmap::new(),
        };
        if hidden.is_empty() {
            return self.output.write(rows);
        }
        let is_kept = |row: usize| !u32::try_from(row).is_ok_and(|row| hidden.contains(row));
        let kept: BooleanArray = (0..rows.num_rows()).map(|row| Some(is_kept(row))).collect();
        let gone = not(&kept).and_then(|gone| filter_record_batch(rows, &gone));
        self.hidden.add(&hashes(self.plan, &gone.map_err(alluvium_rows::Error::from)?)?);
        let rows = filter_record_batch(rows, &kept).map_err(alluvium_rows::Error::from)?;
        self.output.write(&rows)
    }

    async fn finish(self, context: &FileContext) -> Result<AttestOutcome, Error> {
        let Self { plan, output, rows_in, hidden, .. } = self;
        let (expected, found) = (plan.rows_planned, rows_in.rows);
        if found != expected {
            return Err(Error::PlannedRows { file: plan.file, expected, found });
        }
        if output.rows() == 0 {
            conserve(plan, rows_in, hidden, Sums::default())?;
            return Ok(AttestOutcome::Empty { rows_hidden: hidden.rows });
        }
        let conserved = |rows_out| conserve(plan, rows_in, hidden, rows_out);
        let attested = output.publish(context, hidden.rows, conserved).await?;
        Ok(AttestOutcome::Written(Box::new(attested)))
    }
}

/// INV-F2, by count and by sum.
pub(crate) fn conserve(
    plan: &FileRecord,
    rows_in: Sums,
    rows_hidden: Sums,
    rows_out: Sums,
) -> Result<(), Error> {
    let by_count = rows_in.rows.checked_sub(rows_hidden.rows) == Some(rows_out.rows);
    let by_sum = rows_in.hash_sum.wrapping_sub(rows_hidden.hash_sum) == rows_out.hash_sum;
    if by_count && by_sum {
        return Ok(());
    }
    Err(Error::Conservation { file: plan.file, rows_in, rows_hidden, rows_out })
}
