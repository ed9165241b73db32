//! Appending rows durably: the embedded node, and what the disk would give to bare Arrow IPC.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alluvium_engine::{Node, RegisterOptions};
use anyhow::Result;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use futures::FutureExt as _;

use super::log_bare::{Group, Recycled};
use super::node::{DATASET, caller, flights, open, part, runtime};
use crate::closed_loop::{self, AsyncWork, Work};
use crate::plan::MIB;
use crate::sample::{Params, Sample};

/// The file of the limit: larger than any batch.
const RECYCLED_BYTES: u64 = 128 * MIB;

pub(super) fn append(params: &Params) -> Result<Sample> {
    let flights = flights(params)?;
    let rows = usize::try_from(params.number("rows")?)?;
    let directory = Path::new(params.text("scratch")?).join("node");
    let runtime = runtime()?;
    let measured = runtime.block_on(async {
        let node = open(&directory).await?;
        node.register(&caller(), DATASET, flights.schema(), RegisterOptions::keyed(&[])).await?;
        let next = Arc::new(AtomicUsize::new(0));
        let works = (0..params.number("clients")?)
            .map(|_| client(node.clone(), flights.clone(), rows, Arc::clone(&next)))
            .collect();
        let measured = closed_loop::run_async(works, params.number("millis")?).await?;
        node.shutdown().await?;
        anyhow::Ok(measured)
    })?;
    measured.sample(params.number("rows")?)
}

fn client(node: Node, flights: RecordBatch, rows: usize, next: Arc<AtomicUsize>) -> AsyncWork {
    Box::new(move || {
        let batch = part(&flights, rows, next.fetch_add(1, Ordering::Relaxed));
        let node = node.clone();
        async move {
            node.append(&caller(), DATASET, vec![batch]).await?;
            Ok(())
        }
        .boxed()
    })
}

/// The limit: each batch as one Arrow IPC stream, written and synced.
pub(super) fn append_ipc(params: &Params) -> Result<Sample> {
    let flights = flights(params)?;
    let rows = usize::try_from(params.number("rows")?)?;
    let (clients, millis) = (params.number("clients")?, params.number("millis")?);
    let mut recycled = Recycled::create(Path::new(params.text("scratch")?), RECYCLED_BYTES)?;
    let next = Arc::new(AtomicUsize::new(0));
    let encode = move || {
        let batch = part(&flights, rows, next.fetch_add(1, Ordering::Relaxed));
        encoded(&batch)
    };
    if clients == 1 {
        let work: Work = Box::new(move || recycled.append(&encode()?));
        return closed_loop::run(vec![work], millis)?.sample(params.number("rows")?);
    }
    let measured = Group::run(recycled, clients, millis, &|mut append| {
        let encode = encode.clone();
        Box::new(move || append(&encode()?))
    })?;
    measured.sample(params.number("rows")?)
}

fn encoded(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}
