//! Readers that are slow, while maintenance is not.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_engine::SqlOptions;
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use futures::StreamExt as _;

use crate::museum::data_files;
use crate::support::{Lake, batch, caller};

/// Rows of each file: more than an answer holds ready while nobody takes it.
pub(crate) const ROWS: i64 = 100_000;

/// Makes `t` with two files.
pub(crate) async fn two_files() -> Lake {
    let lake = Lake::keyed().await;
    for first in [0, ROWS] {
        let keys: Vec<String> = (first..first + ROWS).map(|n| format!("key-{n:07}")).collect();
        let rows: Vec<_> = keys.iter().map(String::as_str).zip(first..).collect();
        lake.node.append(&caller(), "t", vec![batch(&rows)]).await.expect("appends");
        lake.node.seal(&caller(), "t").await.expect("seals");
    }
    lake
}

pub(crate) async fn wait_for_files(lake: &Lake, count: usize) -> Vec<PathBuf> {
    for _ in 0..1_000 {
        let files = data_files(&lake.dir());
        if files.len() == count {
            return files;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there are still {:?}", data_files(&lake.dir()));
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m39_files_of_a_half_read_answer_outlive_compaction_and_expiry_until_it_is_read() {
    let lake = two_files().await;
    let old = data_files(&lake.dir());
    assert_eq!(old.len(), 2);
    let text = "SELECT value FROM t";
    let mut answer = lake.node.sql(text, SqlOptions::default()).await.expect("runs");
    let first = answer.next().await.expect("rows").expect("reads");
    let mut values: Vec<i64> = first.column(0).as_primitive::<Int64Type>().values().to_vec();
    assert!(
        i64::try_from(values.len()).is_ok_and(|read| read < ROWS),
        "the answer is not half read: {} rows",
        values.len()
    );

    lake.tombstone(&["key-0000000"]).await;
    let report = lake.node.compact(&caller(), "t").await.expect("compacts");
    assert_eq!((report.rows_in, report.rows_hidden), (2 * ROWS as u64, 1));
    let floor = lake.node.applied();
    let expired = lake.node.expire(&caller(), "t", Some(floor)).await.expect("expires");
    assert!(expired.index > floor);
    assert_eq!(data_files(&lake.dir()).len(), 3, "a reader holds the old files");

    while let Some(more) = answer.next().await {
        let more = more.expect("goes on to its end");
        values.extend(more.column(0).as_primitive::<Int64Type>().values());
    }
    values.sort_unstable();
    assert_eq!(values, (0..2 * ROWS).collect::<Vec<_>>());
    assert!(old.iter().all(|file| file.exists()), "the answer still has its lease");
    drop(answer);
    let left = wait_for_files(&lake, 1).await;
    assert!(!old.contains(&left[0]), "the new file stays");
    let count = lake.number("SELECT count(*) FROM t").await.expect("counts");
    assert_eq!(count, 2 * ROWS - 1);
}
