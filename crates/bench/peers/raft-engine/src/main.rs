//! raft-engine, TiKV's log, as a program that answers like a contender: recycling on, files prefilled, no
//! compression, a sync for every write.
//!
//! Invariant: it is asked for exactly what Alluvium's log is asked for.
#![expect(dead_code, reason = "the shared files hold what other contenders need")]

#[path = "../../../src/closed_loop.rs"]
mod closed_loop;
#[path = "../../../src/same.rs"]
mod same;
#[path = "../../../src/sample.rs"]
mod sample;
#[path = "../../../src/stats.rs"]
mod stats;

use std::path::Path;
use std::sync::Arc;

use alluvium_stdx::{Clock as _, SystemClock};
use anyhow::{Context as _, Result, ensure};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::closed_loop::Work;
use crate::same::{payload, per_gigabyte, purge_every};
use crate::sample::{Params, Sample};

/// Entries that are written together while a log is filled.
const FILL: u64 = 4096;
/// Prefilled files: more than a run uses before its purges give files back.
const PREFILLED: u64 = 8;
const REGION: u64 = 1;

/// Payloads whose first eight bytes are their index: raft-engine wants a message and asks it for its index.
#[derive(Debug, Clone)]
struct Entries;

impl MessageExt for Entries {
    type Entry = BytesValue;

    fn index(entry: &Self::Entry) -> u64 {
        let first = entry.get_value().first_chunk().expect("payloads are longer than an index");
        u64::from_le_bytes(*first)
    }
}

fn entry(payload: Vec<u8>, index: u64) -> BytesValue {
    let mut entry = BytesValue::new();
    entry.set_value(payload);
    number(&mut entry, index);
    entry
}

fn number(entry: &mut BytesValue, index: u64) {
    let bytes = entry.mut_value().first_chunk_mut();
    *bytes.expect("payloads are longer than an index") = index.to_le_bytes();
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let params = Params::parse(&words)?;
    let sample = match params.work.as_str() {
        "append" => append(&params),
        "reopen-fill" => fill(&params),
        "reopen-open" => open(&params),
        unknown => anyhow::bail!("unknown work `{unknown}`"),
    }?;
    println!("{}", sample.line()?);
    Ok(())
}

fn open_engine(directory: &Path, segment_bytes: u64, prefill: bool) -> Result<Engine> {
    let config = Config {
        dir: directory.to_str().context("the directory's name is text")?.to_owned(),
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(segment_bytes),
        // Purges are what gives files back: often enough that a run writes into recycled files alone.
        purge_threshold: ReadableSize(if prefill { 4 * segment_bytes } else { u64::MAX / 4 }),
        enable_log_recycle: true,
        prefill_for_recycle: prefill,
        prefill_limit: prefill.then_some(ReadableSize(PREFILLED * segment_bytes)),
        ..Config::default()
    };
    Ok(Engine::open(config)?)
}

fn append(params: &Params) -> Result<Sample> {
    let directory = params.text("scratch")?;
    let engine = Arc::new(open_engine(Path::new(directory), params.number("segment")?, true)?);
    sync_prefilled(Path::new(directory))?;
    let payload = payload(params)?;
    let purge_every = purge_every(params)?;
    let writer = |region| writer(&engine, region, payload.clone(), purge_every);
    let works = (1..=params.number("writers")?).map(writer).collect();
    closed_loop::run(works, params.number("millis")?)?.sample(1)
}

/// It leaves prefilled files to the page cache: a sync within the timed span would have to write them all.
fn sync_prefilled(directory: &Path) -> Result<()> {
    for file in std::fs::read_dir(directory)? {
        std::fs::File::open(file?.path())?.sync_all()?;
    }
    Ok(())
}

fn writer(engine: &Arc<Engine>, region: u64, payload: Vec<u8>, purge_every: u64) -> Work {
    let engine = Arc::clone(engine);
    let mut batch = LogBatch::with_capacity(1);
    let mut entries = [entry(payload, 0)];
    let mut index = 0;
    Box::new(move || {
        index += 1;
        number(&mut entries[0], index);
        batch.add_entries::<Entries>(region, &entries)?;
        engine.write(&mut batch, true)?;
        if index % purge_every == 0 {
            engine.compact_to(region, index);
            if region == REGION {
                engine.purge_expired_files()?;
            }
        }
        Ok(())
    })
}

fn fill(params: &Params) -> Result<Sample> {
    let engine = open_engine(&params.directory()?, params.number("segment")?, false)?;
    let payload = payload(params)?;
    let records = params.number("records")?;
    let mut first = 1;
    while first <= records {
        let last = records.min(first + FILL - 1);
        let mut batch = LogBatch::with_capacity(1);
        let entries: Vec<BytesValue> =
            (first..=last).map(|index| entry(payload.clone(), index)).collect();
        batch.add_entries::<Entries>(REGION, &entries)?;
        engine.write(&mut batch, false)?;
        first = last + 1;
    }
    engine.sync()?;
    Ok(Sample::of(0.0))
}

fn open(params: &Params) -> Result<Sample> {
    let clock = SystemClock::new();
    let directory = params.directory()?;
    let begin = clock.monotonic_ns();
    let engine = open_engine(&directory, params.number("segment")?, false)?;
    let elapsed = clock.monotonic_ns() - begin;
    let last = engine.last_index(REGION);
    ensure!(last == Some(params.number("records")?), "the log ends at {last:?}");
    per_gigabyte(params, elapsed)
}
