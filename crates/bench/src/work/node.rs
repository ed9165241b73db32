//! What the engine's benchmarks share: an embedded node, and flights to put into it.
//!
//! Invariant: every benchmark uses a node as any program would, through its public functions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_engine::{Caller, Config, Node, RegisterOptions};
use alluvium_ingest::Source;
use anyhow::{Context as _, Result};
use arrow::array::Int64Array;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use tokio::runtime::{Builder, Runtime};

use crate::plan::MIB;
use crate::sample::Params;

pub(super) const DATASET: &str = "flights";

pub(super) fn caller() -> Caller {
    Caller::named("bench")
}

pub(super) fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread().enable_all().build().context("start the runtime")
}

/// Opens the node in `directory`, whose log may grow without being sealed.
pub(super) async fn open(directory: &Path) -> Result<Node> {
    let mut config = Config::single(directory);
    config.log_bytes_max = 8 * 1024 * MIB;
    Node::open(config).await.context("open the node")
}

/// Says that rows stay in the log until someone seals them.
pub(super) fn unsealed(key_columns: &[&str]) -> RegisterOptions {
    let mut options = RegisterOptions::keyed(key_columns);
    options.options.seal_rows = u64::MAX;
    options.options.seal_bytes = alluvium_types::limits::SEAL_BYTES_MAX;
    options
}

/// Reads the committed sample: 200,000 flights in one batch.
pub(super) fn flights(params: &Params) -> Result<RecordBatch> {
    let source = Source::at(PathBuf::from(params.text("sample")?));
    let batches: Vec<RecordBatch> =
        alluvium_ingest::open(&source, None)?.collect::<Result<_, _>>()?;
    let schema = batches.first().context("the sample has rows")?.schema();
    Ok(concat_batches(&schema, &batches)?)
}

/// Returns `rows` rows, a different part each time.
pub(super) fn part(flights: &RecordBatch, rows: usize, number: usize) -> RecordBatch {
    let places = flights.num_rows() - rows + 1;
    flights.slice((number * rows) % places, rows)
}

/// Puts a column of ids before the others; the first row has `first_id`.
pub(super) fn with_ids(batch: &RecordBatch, first_id: i64) -> Result<RecordBatch> {
    let rows = i64::try_from(batch.num_rows())?;
    let ids = Int64Array::from_iter_values(first_id..first_id + rows);
    let mut fields = vec![Arc::new(Field::new("id", DataType::Int64, false))];
    fields.extend(batch.schema().fields().iter().map(Arc::clone));
    let mut columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(ids)];
    columns.extend(batch.columns().iter().map(Arc::clone));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Copies a directory with all that is in it: a round must not change what the next one finds.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
