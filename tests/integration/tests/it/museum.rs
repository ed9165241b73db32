//! Bugs that other lakehouses shipped, tried on a whole node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_engine::{Caller, Error, RegisterOptions, SqlOptions, TombstoneKeys};
use alluvium_types::{ErrorKind, LogIndex, Rejection, Sequence};
use arrow::datatypes::{DataType, Field, Schema};

use crate::support::{Lake, batch, caller, expect, schema};

/// Returns the data files below a node's directory.
pub(crate) fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.join("buckets")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("reads").map(|entry| entry.expect("entry")) {
            let path = entry.path();
            match path.is_dir() {
                true => dirs.push(path),
                false if path.extension().is_some_and(|end| end == "parquet") => found.push(path),
                false => {}
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m04_a_tombstone_beside_a_compaction_is_not_lost() {
    let lake = Lake::keyed().await;
    for round in 0..4 {
        lake.append(&[("a", round), ("b", round), ("c", round)]).await;
        lake.node.seal(&caller(), "t").await.expect("seals");
    }
    let compacting = {
        let node = lake.node.clone();
        async move { node.compact(&caller(), "t").await }
    };
    let hiding = async { lake.tombstone(&["b"]).await };
    let (compacted, _) = tokio::join!(compacting, hiding);
    compacted.expect("compacts");
    let left: Vec<_> = lake.rows().await.into_iter().filter(|row| row.0 == "b").collect();
    assert_eq!(left, []);
    // And folding it into the next generation changes nothing that is visible.
    let before = lake.rows().await;
    lake.node.compact(&caller(), "t").await.expect("what is left to fold is folded");
    assert_eq!(lake.rows().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m05_a_warm_cache_never_shows_a_hidden_row() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1), ("b", 2)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    assert_eq!(lake.rows().await.len(), 2);
    lake.tombstone(&["a"]).await;
    assert_eq!(lake.rows().await, expect(&[("b", 2)]));
    lake.tombstone(&["b"]).await;
    assert_eq!(lake.rows().await, []);
    let lake = lake.restart().await;
    assert_eq!(lake.rows().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m07_files_and_deltas_together_are_the_table() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    lake.append(&[("b", 2)]).await;
    assert_eq!(lake.rows().await, expect(&[("a", 1), ("b", 2)]));
    let lake = lake.restart().await;
    assert_eq!(lake.rows().await, expect(&[("a", 1), ("b", 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m12_a_key_inserted_again_survives_later_compactions() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    lake.tombstone(&["a"]).await;
    lake.append(&[("a", 2)]).await;
    for _ in 0..2 {
        match lake.node.compact(&caller(), "t").await {
            Ok(_) | Err(Error::Rejected(Rejection::NothingToCompact)) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(lake.rows().await, expect(&[("a", 2)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m13_a_thousand_identical_registers_are_one_dataset() {
    let lake = Lake::new().await;
    let registers =
        (0..1_000).map(|_| {
            let node = lake.node.clone();
            async move {
                node.register(&caller(), "t", schema(), RegisterOptions::keyed(&["key"])).await
            }
        });
    let answers = futures::future::join_all(registers).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("registers")).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.existing).count(), 1);
    assert!(answers.iter().all(|answer| answer.dataset == answers[0].dataset));
    assert_eq!(lake.node.datasets(None).await.expect("lists").1.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m15_a_conflicting_register_leaves_every_byte_untouched() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    let bytes = |lake: &Lake| -> Vec<_> {
        data_files(&lake.dir()).iter().map(|path| std::fs::read(path).expect("reads")).collect()
    };
    let (before, rows) = (bytes(&lake), lake.rows().await);
    let other = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]));
    let conflict =
        lake.node.register(&caller(), "t", other, RegisterOptions::keyed(&["key"])).await;
    let error = conflict.expect_err("another schema");
    assert!(matches!(error, Error::Rejected(Rejection::SchemaConflict { .. })), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!((bytes(&lake), lake.rows().await), (before, rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m16_a_dataset_with_a_lost_file_is_an_error_that_names_it_and_the_others_serve() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    let files = data_files(&lake.dir());
    lake.node
        .register(&caller(), "u", schema(), RegisterOptions::keyed(&[]))
        .await
        .expect("registers");
    lake.node.append(&caller(), "u", vec![batch(&[("x", 9)])]).await.expect("appends");
    lake.node.seal(&caller(), "u").await.expect("seals");
    std::fs::remove_file(&files[0]).expect("the file of t goes");
    assert_eq!(lake.number("SELECT count(*) FROM u").await.expect("u serves"), 1);
    let error = lake.rows_as_of(None).await.expect_err("t has lost a file");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let name = files[0].file_name().expect("a name").to_string_lossy().into_owned();
    assert!(alluvium_text(&error).contains(&name), "{}", alluvium_text(&error));
    let report = lake.node.verify().await.expect("looks");
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    // A node that starts finds the same: it serves what is whole and names what is not.
    let lake = lake.restart().await;
    assert_eq!(lake.number("SELECT count(*) FROM u").await.expect("u serves"), 1);
    lake.node.append(&caller(), "u", vec![batch(&[("y", 8)])]).await.expect("u takes rows");
    assert_eq!(lake.number("SELECT count(*) FROM u").await.expect("u serves"), 2);
    let error = lake.rows_as_of(None).await.expect_err("t has lost a file");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(alluvium_text(&error).contains(&name), "{}", alluvium_text(&error));
    assert_eq!(lake.node.datasets(None).await.expect("lists").1.len(), 2);
}

fn alluvium_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m18_drop_and_register_again_meets_no_old_row_file_or_count() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1), ("b", 2)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    lake.tombstone(&["a"]).await;
    assert_eq!(lake.rows().await.len(), 1);
    let first = lake.node.dataset("t", None).await.expect("there").dataset;
    lake.node.drop_dataset(&caller(), "t").await.expect("drops");
    let error = lake.rows_as_of(None).await.expect_err("dropped");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    lake.node
        .register(&caller(), "t", schema(), RegisterOptions::keyed(&["key"]))
        .await
        .expect("again");
    let second = lake.node.dataset("t", None).await.expect("there");
    assert_eq!(second.dataset.id, first.id);
    assert!(second.dataset.incarnation > first.incarnation);
    assert_eq!((second.files, second.deltas, second.tombstones), (0, 0, 0));
    assert_eq!(lake.rows().await, []);
    lake.append(&[("a", 3)]).await;
    assert_eq!(lake.rows().await, expect(&[("a", 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m24_a_retry_takes_effect_once_and_returns_the_first_answer() {
    let lake = Lake::keyed().await;
    let session = lake.node.open_session("test", None).await.expect("opens");
    let numbered = Caller { session: Some((session, Sequence(1))), ..caller() };
    let first = lake.node.append(&numbered, "t", vec![batch(&[("a", 1)])]).await.expect("appends");
    for _ in 0..5 {
        let again = lake.node.append(&numbered, "t", vec![batch(&[("a", 1)])]).await;
        assert_eq!(again.expect("the first answer"), first);
    }
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
    let other = lake.node.append(&numbered, "t", vec![batch(&[("a", 2)])]).await;
    let error = other.expect_err("the number is taken");
    assert!(matches!(error, Error::Rejected(Rejection::SequenceConflict { .. })), "{error}");
    let lake = lake.restart().await;
    let again = lake.node.append(&numbered, "t", vec![batch(&[("a", 1)])]).await;
    assert_eq!(again.expect("after a restart too"), first);
}

/// Reads in each way that there is.
async fn read_all(lake: &Lake, appended: u64) {
    lake.rows().await;
    lake.rows_as_of(Some(appended)).await.expect("reads the past");
    lake.node.datasets(None).await.expect("lists");
    lake.node.datasets(Some(LogIndex(appended))).await.expect("lists the past");
    lake.node.dataset("t", None).await.expect("shows");
    lake.node.log(None, 100).await.expect("tells");
    lake.node.preview_tombstone("t", "value > 0").await.expect("counts");
    for system in ["log", "datasets", "files", "tombstones"] {
        lake.number(&format!("SELECT count(*) FROM system.{system}")).await.expect(system);
    }
    assert_eq!(lake.node.verify().await.expect("looks").damage, Vec::<String>::new());
}

/// Asks for writes that are refused before they are proposed, and for one that has nothing to hide.
async fn write_in_vain(lake: &Lake) {
    let invalid = ErrorKind::InvalidArgument;
    let refused = lake.node.append(&caller(), "no such", vec![batch(&[("a", 1)])]).await;
    assert_eq!(refused.expect_err("an illegal name").kind(), invalid);
    let refused = lake.node.append(&caller(), "u", vec![batch(&[("a", 1)])]).await;
    assert_eq!(refused.expect_err("no such dataset").kind(), ErrorKind::NotFound);
    let refused = lake.node.append(&caller(), "t", vec![batch(&[])]).await;
    assert_eq!(refused.expect_err("no rows").kind(), invalid);
    let texts = TombstoneKeys::Texts(vec![vec!["a".to_owned(), "b".to_owned()]]);
    let refused = lake.node.tombstone(&caller(), "t", texts).await;
    assert_eq!(refused.expect_err("two values").kind(), invalid);
    let predicate = TombstoneKeys::Predicate("value < random()".to_owned());
    let refused = lake.node.tombstone(&caller(), "t", predicate).await;
    assert_eq!(refused.expect_err("volatile").kind(), invalid);
    let nothing = TombstoneKeys::Predicate("value > 1000".to_owned());
    let hidden = lake.node.tombstone(&caller(), "t", nothing).await.expect("no row matches");
    assert_eq!(hidden.count, 0);
    for text in ["DROP TABLE t", "INSERT INTO t VALUES ('b', 2)", "SELECT nope FROM t"] {
        let refused = lake.node.sql(text, SqlOptions::default()).await;
        refused.expect_err(text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m28_reading_and_refused_writes_leave_the_digest_alone() {
    let lake = Lake::keyed().await;
    let appended = lake.append(&[("a", 1), ("b", 2)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    lake.append(&[("c", 3)]).await;
    let before = lake.node.status().await.expect("status");
    let entries = lake.node.log(None, 1_000).await.expect("tells");
    for _ in 0..3 {
        read_all(&lake, appended).await;
        write_in_vain(&lake).await;
    }
    let after = lake.node.status().await.expect("status");
    assert_eq!((&after.digest, after.applied), (&before.digest, before.applied));
    assert_eq!(lake.node.log(None, 1_000).await.expect("tells"), entries, "nothing was logged");

    // One entry that changes something changes the digest: the comparison can fail.
    lake.append(&[("d", 4)]).await;
    let changed = lake.node.status().await.expect("status");
    assert_ne!(changed.digest, before.digest);
    // A start adds what the log says it adds, and the digest is that of the log up to there.
    let lake = lake.restart().await;
    let report = lake.node.verify().await.expect("looks");
    assert_eq!((report.digest_kept, report.damage), (report.digest_recomputed, vec![]));
    let entries = lake.node.log(None, 1_000).await.expect("tells");
    let status = lake.node.status().await.expect("status");
    let of_users = |record: &&alluvium_engine::LogRecord| record.index > changed.applied;
    let kinds: Vec<_> =
        entries.iter().filter(of_users).map(|record| record.kind.as_str()).collect();
    assert!(kinds.iter().all(|kind| *kind == "blank"), "{kinds:?}");
    assert_eq!(status.digest, changed.digest, "an entry without a command changes no metadata");
    lake.node.shutdown().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m39_a_sweep_takes_only_what_nothing_refers_to() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1), ("b", 2)]).await;
    lake.node.seal(&caller(), "t").await.expect("seals");
    let before = lake.append(&[("c", 3)]).await;
    lake.tombstone(&["a"]).await;
    let report = lake.node.compact(&caller(), "t").await.expect("compacts");
    assert_eq!((report.rows_in, report.rows_hidden, report.rows_out), (3, 1, 2));
    assert_eq!(data_files(&lake.dir()).len(), 3, "old files stay for reads as of earlier indexes");
    assert_eq!(lake.rows_as_of(Some(before)).await.expect("reads").len(), 3);
    lake.node.expire(&caller(), "t", None).await.expect("expires");
    assert_eq!(data_files(&lake.dir()).len(), 1);
    assert_eq!(lake.rows().await, expect(&[("b", 2), ("c", 3)]));
    let error = lake.rows_as_of(Some(before)).await.expect_err("below the floor");
    assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m41_names_with_case_dots_and_unicode_resolve_alike_everywhere() {
    let lake = Lake::new().await;
    for name in ["Mixed", "with.dot", "größe", "航班", "under_score"] {
        lake.node
            .register(&caller(), name, schema(), RegisterOptions::keyed(&[]))
            .await
            .expect(name);
        lake.node.append(&caller(), name, vec![batch(&[("a", 1)])]).await.expect(name);
        let count = lake.number(&format!("SELECT count(*) FROM \"{name}\"")).await.expect(name);
        assert_eq!(count, 1, "{name}");
    }
    // An identifier without quotes means the only dataset that differs by case alone.
    assert_eq!(lake.number("SELECT count(*) FROM mixed").await.expect("one match"), 1);
    let error = lake.number("SELECT count(*) FROM \"mixed\"").await.expect_err("quoted is exact");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m43_a_volatile_predicate_is_refused_and_hides_nothing() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1), ("b", 2)]).await;
    for predicate in ["value < random()", "now() > '2020-01-01'", "key = uuid()"] {
        let keys = TombstoneKeys::Predicate(predicate.to_owned());
        let error = lake.node.tombstone(&caller(), "t", keys).await.expect_err(predicate);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{predicate}: {error}");
    }
    assert_eq!(lake.rows().await.len(), 2);
    let keys = TombstoneKeys::Predicate("value > 1".to_owned());
    assert_eq!(lake.node.tombstone(&caller(), "t", keys).await.expect("hides").count, 1);
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn museum_m44_concurrent_upserts_of_one_key_leave_one_row() {
    let lake = Lake::keyed().await;
    let upserts = (0..64).map(|value| {
        let node = lake.node.clone();
        async move { node.upsert(&caller(), "t", vec![batch(&[("a", value)])]).await }
    });
    let answers = futures::future::join_all(upserts).await;
    let last =
        answers.into_iter().zip(0..).map(|(answer, value)| (answer.expect("upserts").index, value));
    let last = last.max().expect("64 answers").1;
    assert_eq!(lake.rows().await, expect(&[("a", last)]));
    lake.node.compact(&caller(), "t").await.expect("63 rows are hidden");
    assert_eq!(lake.rows().await, expect(&[("a", last)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_index_above_the_floor_reads_as_it_was() {
    let lake = Lake::keyed().await;
    let mut history = Vec::new();
    let mut keep = |index: u64, rows: Vec<(String, i64)>| history.push((index, rows));
    keep(lake.append(&[("a", 1), ("b", 2)]).await, lake.rows().await);
    keep(lake.tombstone(&["a"]).await, lake.rows().await);
    keep(lake.upsert(&[("b", 3), ("c", 4)]).await, lake.rows().await);
    lake.node.seal(&caller(), "t").await.expect("seals");
    keep(lake.append(&[("a", 5)]).await, lake.rows().await);
    lake.node.compact(&caller(), "t").await.expect("compacts");
    keep(lake.tombstone(&["c"]).await, lake.rows().await);
    let lake = lake.restart().await;
    for (index, rows) in history {
        let found = lake.rows_as_of(Some(index)).await.expect("above the floor");
        assert_eq!(found, rows, "as of {index}");
        let text = format!("SELECT count(*) FROM t AS OF {index}");
        let count = lake.number(&text).await.expect("above the floor");
        assert_eq!(usize::try_from(count), Ok(rows.len()), "as of {index} in SQL");
    }
    let options = SqlOptions { as_of: Some(LogIndex(1_000_000)), ..SqlOptions::default() };
    let error = lake.node.sql("SELECT * FROM t", options).await.expect_err("not yet written");
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
}
