//! Aggregates over rows in files, rows still in the log, and tombstones.
//!
//! Invariant: what the `clean` directory holds is exactly what the other one shows.

use std::sync::Arc;

use alluvium_engine::{Node, SqlOptions, TombstoneKeys};
use alluvium_stdx::{Clock as _, SystemClock};
use anyhow::{Context as _, Result};
use arrow::array::{AsArray as _, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;

use super::node::{DATASET, caller, flights, open, part, runtime, unsealed, with_ids};
use crate::sample::{Params, Sample};
use alluvium_bench_kit::stats::median;

const MODULUS: i128 = 1_000_000_007;
/// One tombstone in so many hides a row; the others name keys that never were.
const HIT_EVERY: i64 = 10;

/// Makes a dataset: most rows in three files, a tenth in small unsealed appends, then tombstones.
pub(super) fn fill(params: &Params) -> Result<Sample> {
    let flights = flights(params)?;
    runtime()?.block_on(async {
        let node = open(&params.directory()?).await?;
        fill_rows(&node, &flights, i64::try_from(params.number("rows")?)?).await?;
        let tombstones = i64::try_from(params.number("tombstones")?)?;
        if tombstones > 0 {
            node.tombstone(&caller(), DATASET, keys(tombstones)?).await?;
        }
        if params.text("clean")? == "yes" {
            // Two steps, so that there is one file whatever compaction would have left alone.
            node.compact(&caller(), DATASET).await?;
            node.expire(&caller(), DATASET, None).await?;
        }
        node.shutdown().await?;
        Ok(Sample::of(0.0))
    })
}

async fn fill_rows(node: &Node, flights: &RecordBatch, rows: i64) -> Result<()> {
    let schema = with_ids(&flights.slice(0, 1), 0)?.schema();
    node.register(&caller(), DATASET, schema, unsealed(&["id"])).await?;
    let (in_files, step) = (rows / 10 * 9, rows / 30);
    let mut first = 0;
    while first < in_files {
        append(node, flights, first, step).await?;
        first += step;
        if first % (in_files / 3) == 0 {
            node.seal(&caller(), DATASET).await?;
        }
    }
    let small = (rows / 1000).max(1);
    while first < rows {
        append(node, flights, first, small.min(rows - first)).await?;
        first += small;
    }
    Ok(())
}

async fn append(node: &Node, flights: &RecordBatch, first: i64, rows: i64) -> Result<()> {
    let count = usize::try_from(rows)?;
    let batch = with_ids(&part(flights, count, usize::try_from(first / rows)?), first)?;
    node.append(&caller(), DATASET, vec![batch]).await?;
    Ok(())
}

/// Keys of which one in ten is there.
fn keys(count: i64) -> Result<TombstoneKeys> {
    let id = |number: i64| if number % HIT_EVERY == 0 { number } else { -number };
    let ids = Int64Array::from_iter_values((0..count).map(id));
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids)])?;
    Ok(TombstoneKeys::Batches(vec![batch]))
}

/// Runs each query once cold and then `repeats` times; the figure is the sum of the warm medians.
pub(super) fn query(params: &Params) -> Result<Sample> {
    let repeats = params.number("repeats")?;
    runtime()?.block_on(async {
        let node = open(&params.directory()?).await?;
        let (mut cold, mut warm, mut checks) = (0.0, 0.0, Vec::new());
        let mut sample = Sample::default();
        for (number, text) in params.text("queries")?.split(';').enumerate() {
            let (first_ms, check) = timed(&node, text).await?;
            let mut times = Vec::new();
            for _ in 0..repeats {
                let (ms, again) = timed(&node, text).await?;
                anyhow::ensure!(again == check, "`{text}` answered {check}, then {again}");
                times.push(ms);
            }
            let middle = median(&times).context("it is repeated")?;
            sample = sample.and(&format!("q{}", number + 1), middle);
            cold += first_ms;
            warm += middle;
            checks.push(check.to_string());
        }
        node.shutdown().await?;
        let sample = Sample { value: warm, ..sample }.and("cold", cold);
        // The same dataset without tombstones is there for its time: its answer is another.
        Ok(match params.text("check")? {
            "yes" => sample.checked(checks.join(",")),
            _ => sample,
        })
    })
}

async fn timed(node: &Node, text: &str) -> Result<(f64, i128)> {
    let clock = SystemClock::new();
    let begin = clock.monotonic_ns();
    let answer = node.sql(text, SqlOptions::default()).await?.collect().await?;
    let elapsed = clock.monotonic_ns() - begin;
    Ok((elapsed as f64 / 1e6, fingerprint(&answer)))
}

/// A sum over the integers of an answer, by row and column: peers/sql_duckdb.py computes the same.
fn fingerprint(answer: &[RecordBatch]) -> i128 {
    let (mut total, mut position) = (0_i128, 0_i128);
    for batch in answer {
        for row in 0..batch.num_rows() {
            position += 1;
            for column in batch.columns() {
                if let Some(values) = column.as_primitive_opt::<Int64Type>() {
                    let value = i128::from(values.value(row)).rem_euclid(MODULUS);
                    total = (total * 31 + position * value) % MODULUS;
                }
            }
        }
    }
    total
}
