//! Compaction: many files of one dataset become one, verified row by row.

use std::path::Path;

use alluvium_stdx::{Clock as _, SystemClock};
use anyhow::Result;

use super::node::{DATASET, caller, copy_tree, flights, open, runtime, unsealed};
use crate::sample::{Params, Sample};

pub(super) fn fill(params: &Params) -> Result<Sample> {
    let flights = flights(params)?;
    runtime()?.block_on(async {
        let node = open(&params.directory()?).await?;
        node.register(&caller(), DATASET, flights.schema(), unsealed(&[])).await?;
        for _ in 0..params.number("files")? {
            node.append(&caller(), DATASET, vec![flights.clone()]).await?;
            node.seal(&caller(), DATASET).await?;
        }
        node.shutdown().await?;
        Ok(Sample::of(0.0))
    })
}

pub(super) fn compact(params: &Params) -> Result<Sample> {
    let directory = Path::new(params.text("scratch")?).join("node");
    copy_tree(&params.directory()?, &directory)?;
    let clock = SystemClock::new();
    runtime()?.block_on(async {
        let node = open(&directory).await?;
        let begin = clock.monotonic_ns();
        let report = node.compact(&caller(), DATASET).await?;
        let elapsed = clock.monotonic_ns() - begin;
        node.shutdown().await?;
        let megabytes_per_second = report.bytes_in as f64 * 1e3 / elapsed as f64;
        Ok(Sample::of(megabytes_per_second).checked(report.rows_out.to_string()))
    })
}
