//! From rows to an attested file: write, put if absent, read back, compare, and only then attest.
//!
//! It must not attest what it did not read from the bucket. Invariant INV-F1: the rows that were read back
//! have the count and hash sum of the rows that went in.

use std::sync::Arc;

use alluvium_parquet::{
    ColumnStats as WrittenStats, ParquetTableWriter, StatValue as WrittenValue, TableWriter,
    WrittenFile, row_hashes,
};
use alluvium_rows::{INDEX_COLUMN, to_arrow, with_index};
use alluvium_state_machine::record::FileRecord;
use alluvium_storage::VerifiedFile;
use alluvium_types::limits::{FILE_BYTES_MAX, HEADER_BYTES_MAX};
use alluvium_types::{Attested, ColumnStats, LogIndex, Schema, StatValue, codec};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use bytes::Bytes;
use object_store::path::Path;

use crate::context::{FileContext, log_digest, parquet_recipe, storage_digest};
use crate::{Error, Sums};

/// Bytes of an attest entry's header that its file's digest and statistics leave to the rest of it.
const HEADER_REST_BYTES: usize = 8 * 1024;

/// Writes one file and knows what went in.
pub(crate) struct Output<'a> {
    plan: &'a FileRecord,
    schema: &'a Schema,
    writer: Box<ParquetTableWriter>,
    rows: u64,
    /// The lowest and highest index of a row so far.
    indexes: Option<(u64, u64)>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        context: &FileContext,
        plan: &'a FileRecord,
        schema: &'a Schema,
    ) -> Result<Self, Error> {
        let recipe = parquet_recipe(&context.dataset.options.recipe);
        let writer = ParquetTableWriter::new(&with_index(&to_arrow(schema)), &recipe);
        let writer = Box::new(writer.map_err(|source| parquet(plan, source))?);
        Ok(Self { plan, schema, writer, rows: 0, indexes: None })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.rows += rows.num_rows() as u64;
        let index = rows.column_by_name(INDEX_COLUMN).expect("rows carry their index");
        for &index in index.as_primitive::<UInt64Type>().values() {
            let (low, high) = self.indexes.unwrap_or((index, index));
            self.indexes = Some((low.min(index), high.max(index)));
        }
        self.writer.write(rows).map_err(|source| parquet(self.plan, source))
    }

    /// Returns how many rows went in.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Puts the file, reads it back, lets the caller compare what was found with what went in, and returns
    /// what to attest.
    pub(crate) async fn publish(
        self,
        context: &FileContext,
        rows_hidden: u64,
        compare: impl FnOnce(Sums) -> Result<(), Error>,
    ) -> Result<Attested, Error> {
        let Self { plan, schema, writer, rows: written, indexes } = self;
        let WrittenFile { bytes, rows, stats } =
            writer.finish().map_err(|source| parquet(plan, source))?;
        assert!(rows == written, "INV-F1: {rows} rows written of {written}");
        check_size(plan, &bytes)?;
        let digest = alluvium_storage::FileDigest::of(&bytes);
        let key = context.object(plan.file, plan.generation);
        context.bucket.put_new(&key, bytes).await?;
        let found = read_back(context, plan, &digest, rows).await?;
        compare(found)?;
        let (first, last) = indexes.expect("a file that is published has rows");
        let mut attested = Attested {
            digest: log_digest(digest),
            rows,
            rows_hidden,
            row_hash_sum: found.hash_sum,
            first_index: LogIndex(first),
            last_index: LogIndex(last),
            stats: column_stats(schema, &stats),
        };
        fit_header(&mut attested);
        Ok(attested)
    }
}

impl Sums {
    pub(crate) fn add(&mut self, hashes: &[u128]) {
        self.rows += hashes.len() as u64;
        self.hash_sum = hashes.iter().fold(self.hash_sum, |sum, hash| sum.wrapping_add(*hash));
    }
}

pub(crate) fn parquet(plan: &FileRecord, source: alluvium_parquet::Error) -> Error {
    Error::Parquet { file: plan.file, source }
}

/// Returns the hash of each row.
pub(crate) fn hashes(plan: &FileRecord, rows: &RecordBatch) -> Result<Vec<u128>, Error> {
    row_hashes(rows).map_err(|source| parquet(plan, source))
}

fn check_size(plan: &FileRecord, bytes: &Bytes) -> Result<(), Error> {
    let (file, bytes, limit) = (plan.file, bytes.len() as u64, FILE_BYTES_MAX);
    if limit < bytes { Err(Error::TooLarge { file, bytes, limit }) } else { Ok(()) }
}

/// Reads a file from its bucket, every block verified, and decodes every row.
pub(crate) async fn read_back(
    context: &FileContext,
    plan: &FileRecord,
    digest: &alluvium_storage::FileDigest,
    rows: u64,
) -> Result<Sums, Error> {
    let bytes = read_whole(context, plan, digest.clone()).await?;
    if alluvium_storage::FileDigest::of(&bytes) != *digest {
        let key = context.object(plan.file, plan.generation).to_string();
        let bucket = context.bucket.name().to_owned();
        return Err(alluvium_storage::Error::FileHash { bucket, key }.into());
    }
    let verified = alluvium_parquet::verify(bytes, rows);
    let verified = verified.map_err(|source| parquet(plan, source))?;
    Ok(Sums { rows: verified.rows, hash_sum: verified.hash_sum })
}

/// Reads a whole file through the verified reader.
pub(crate) async fn read_whole(
    context: &FileContext,
    plan: &FileRecord,
    digest: alluvium_storage::FileDigest,
) -> Result<Bytes, Error> {
    let key = context.object(plan.file, plan.generation);
    let len_bytes = digest.len_bytes;
    check_length(context, &key, len_bytes).await?;
    let file = VerifiedFile::new(context.bucket.clone(), key, Arc::new(digest))?;
    Ok(file.read(0..len_bytes).await?)
}

/// Bytes behind the attested end would never be met by reading blocks.
pub(crate) async fn check_length(
    context: &FileContext,
    key: &Path,
    expected: u64,
) -> Result<(), Error> {
    let (bucket, name) = (context.bucket.name().to_owned(), key.to_string());
    match context.bucket.head(key).await? {
        Some(meta) if meta.size == expected => Ok(()),
        Some(meta) => {
            let found = meta.size;
            Err(alluvium_storage::Error::Length { bucket, key: name, expected, found }.into())
        }
        None => Err(alluvium_storage::Error::Missing { bucket, key: name }.into()),
    }
}

/// Reads an attested file through the verified reader.
pub(crate) async fn read_attested(
    context: &FileContext,
    record: &FileRecord,
    attested: &Attested,
) -> Result<Bytes, Error> {
    read_whole(context, record, storage_digest(&attested.digest)).await
}

/// Returns the statistics of the dataset's own columns, by field id.
fn column_stats(schema: &Schema, written: &[WrittenStats]) -> Vec<ColumnStats> {
    let column = |stats: &WrittenStats| {
        let field = schema.field(&stats.name)?.id;
        let (min, max) = (stats.min.as_ref().map(bound), stats.max.as_ref().map(bound));
        Some(ColumnStats { field, null_count: stats.null_count, min, max })
    };
    written.iter().filter_map(column).collect()
}

fn bound(value: &WrittenValue) -> StatValue {
    match value {
        WrittenValue::Bool(value) => StatValue::Bool(*value),
        WrittenValue::I64(value) => StatValue::Int(*value),
        WrittenValue::U64(value) => StatValue::UInt(*value),
        WrittenValue::F64(value) => StatValue::Float(value.to_bits()),
        WrittenValue::I128(value) => StatValue::Decimal(*value),
        WrittenValue::Str(value) => StatValue::Utf8(value.clone()),
        WrittenValue::Bytes(value) => StatValue::Binary(value.clone()),
    }
}

/// Drops statistics from the last column on until the attestation fits an entry's header: a column without
/// statistics is never pruned, which costs time and no answer. Every replica drops the same.
fn fit_header(attested: &mut Attested) {
    let limit = HEADER_BYTES_MAX as usize - HEADER_REST_BYTES;
    let fits =
        |attested: &Attested| codec::encode(attested).is_ok_and(|encoded| encoded.len() <= limit);
    while !fits(attested) && !attested.stats.is_empty() {
        attested.stats.truncate(attested.stats.len() / 2);
    }
}
