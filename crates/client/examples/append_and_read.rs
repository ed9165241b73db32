//! Appends rows for a while from several writers, reads them back, and counts what failed.
//!
//! `cargo run -p alluvium-client --example append_and_read -- SECONDS WRITERS URL...` against a cluster that loses nodes
//! meanwhile: no call may fail, and every row that was acknowledged must be there once.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium_client::{
    BoxError, Client, Collected, DataType, Error, Field, Level, Options, QueryOptions,
    RegisterOptions, Rows, Schema, WriteOptions,
};
use alluvium_types::FieldId;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::future::join_all;
use tokio::time::Instant;

const DATASET: &str = "append_and_read";

/// What the writers counted.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: AtomicU64,
    ambiguous: AtomicU64,
    failed: AtomicU64,
    reads: AtomicU64,
    retries: AtomicU64,
    slowest_ms: AtomicU64,
}

fn say(text: &str) {
    // There is nowhere to report that standard output is closed.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

fn schema() -> Schema {
    let column = |name: &str| Field {
        id: FieldId(0),
        name: name.to_owned(),
        data_type: DataType::Int64,
        nullable: false,
    };
    Schema { fields: vec![column("writer"), column("n")], key_columns: Vec::new() }
}

fn row(writer: i64, n: i64) -> Result<RecordBatch, BoxError> {
    let column = |value| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let columns = [("writer", column(writer)), ("n", column(n))];
    // The columns are not nullable, as those of the dataset.
    let columns = columns.map(|(name, values)| (name, values, false));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Appends one row after another, and reads each back at some node without a quorum.
async fn writes(
    client: Client,
    writer: i64,
    until: Instant,
    tally: Arc<Tally>,
) -> Result<i64, BoxError> {
    let seen = QueryOptions { level: Level::Seen, ..QueryOptions::default() };
    let mut n = 0;
    while Instant::now() < until {
        let begun = Instant::now();
        let rows = Rows::kept(&[row(writer, n)?])?;
        match client.append(DATASET, rows, WriteOptions::default()).await {
            Ok(_) => _ = tally.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                let counter = if error.is_ambiguous() { &tally.ambiguous } else { &tally.failed };
                counter.fetch_add(1, Ordering::Relaxed);
                say(&format!("writer {writer}, row {n}: {error}"));
            }
        }
        let took = u64::try_from(begun.elapsed().as_millis())?;
        tally.slowest_ms.fetch_max(took, Ordering::Relaxed);
        n += 1;
        let sql = format!("SELECT count(*) AS n FROM {DATASET} WHERE writer = {writer}");
        match client.query_all(&sql, seen).await.map(|answer| first(&answer)) {
            Ok(Some(count)) if count == n => _ = tally.reads.fetch_add(1, Ordering::Relaxed),
            Ok(other) => say(&format!("writer {writer} wrote {n} rows and reads {other:?}")),
            Err(error) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                say(&format!("writer {writer}, reading: {error}"));
            }
        }
    }
    Ok(n)
}

fn first(answer: &Collected) -> Option<i64> {
    let batch = answer.batches.iter().find(|batch| batch.num_rows() > 0)?;
    Some(batch.column(0).as_primitive::<Int64Type>().value(0))
}

/// Compares all rows with what was written.
async fn check(client: &Client, written: &[i64]) -> Result<(), BoxError> {
    let sql = format!("SELECT writer, n FROM {DATASET}");
    let all = client.query_all(&sql, QueryOptions::default()).await?;
    let mut found = BTreeSet::new();
    let mut twice = 0_u64;
    for batch in &all.batches {
        let values = |at: usize| batch.column(at).as_primitive::<Int64Type>().values().iter();
        for (writer, n) in values(0).zip(values(1)) {
            twice += u64::from(!found.insert((*writer, *n)));
        }
    }
    let expected =
        (0..).zip(written).flat_map(|(writer, count)| (0..*count).map(move |n| (writer, n)));
    let expected: BTreeSet<(i64, i64)> = expected.collect();
    let (missing, extra) =
        (expected.difference(&found).count(), found.difference(&expected).count());
    say(&format!(
        "index {}: {} rows, {missing} missing, {extra} extra, {twice} twice",
        all.index,
        all.rows()
    ));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().ok_or("say SECONDS WRITERS URL...");
    let (seconds, writers): (u64, i64) = (number()?.parse()?, number()?.parse()?);
    let tally = Arc::new(Tally::default());
    let told = Arc::clone(&tally);
    let mut options = Options::named("append_and_read");
    options.on_retry = Some(Arc::new(move |retry| {
        if told.retries.fetch_add(1, Ordering::Relaxed) < 20 {
            say(&format!(
                "{} again in {:?}: {} says {}",
                retry.call, retry.wait, retry.failure.url, retry.failure
            ));
        }
    }));
    let client = Client::connect(arguments, options)?;
    match client.drop_dataset(DATASET, WriteOptions::default()).await {
        Ok(_) | Err(Error::Refused { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    client
        .register(DATASET, &schema(), RegisterOptions::default(), WriteOptions::default())
        .await?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let all = (0..writers).map(|writer| writes(client.clone(), writer, until, Arc::clone(&tally)));
    let written = join_all(all).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    say(&format!("{tally:?}"));
    check(&client, &written).await
}
