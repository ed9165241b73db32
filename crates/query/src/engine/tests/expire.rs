//! Expire beside a query: what was pruned under it is an error, never another answer.

use std::sync::Mutex;

use bytes::Bytes;

use alluvium_types::{Command, ErrorKind, Expire};

use super::watched::Watched;
use super::*;
use crate::lake::apply;

type Action = Box<dyn FnOnce() + Send>;

/// What happens before a read of the metadata, and how many reads are before that.
#[derive(Default)]
struct Hook {
    armed: Mutex<Option<(u64, Action)>>,
}

impl Hook {
    fn arm(&self, skip: u64, action: Action) {
        *self.armed.lock().expect("no test panics with it") = Some((skip, action));
    }

    fn is_armed(&self) -> bool {
        self.armed.lock().expect("no test panics with it").is_some()
    }

    fn count(&self) {
        let mut armed = self.armed.lock().expect("no test panics with it");
        let action = match armed.take() {
            Some((0, action)) => action,
            Some((skip, action)) => return *armed = Some((skip - 1, action)),
            None => return,
        };
        drop(armed);
        action();
    }
}

/// Rows 1 to 4 in two files, rows 5 and 6 in the log; rows 2, 3 and 6 are deleted.
async fn hooked() -> (Lake, DatasetKey, Arc<Hook>) {
    let hook = Arc::new(Hook::default());
    let shared = Arc::clone(&hook);
    let before = move |_| {
        shared.count();
        Ok(())
    };
    let mut lake = Lake::with(|_| {}, |inner| Arc::new(Watched::new(inner, before)));
    let t = lake.register("t", keyed_schema());
    lake.append(t, &rows(&[(1, Some(10), Some("a")), (2, Some(20), Some("b"))]));
    lake.seal(t).await.expect("a file");
    lake.evolve(t, SchemaChange::Add(field("w", alluvium_types::DataType::Utf8, true)));
    let wide = |ids: &[Row]| {
        let batch = rows(ids);
        let nulls: ArrayRef = Arc::new(StringArray::new_null(ids.len()));
        let columns = batch.columns().iter().cloned().chain([nulls]);
        let names = ["id", "n", "v", "w"];
        RecordBatch::try_from_iter(names.into_iter().zip(columns)).expect("a batch")
    };
    lake.append(t, &wide(&[(3, None, None), (4, None, None)]));
    lake.seal(t).await.expect("a file");
    lake.append(t, &wide(&[(5, None, None), (6, None, None)]));
    lake.tombstone(t, &ids(&[2, 3, 6]));
    (lake, t, hook)
}

const SHOWN: [&str; 3] = ["1", "4", "5"];

/// Makes the past of the lake's index go: all rows move to one file without the deleted ones.
async fn replace_all(lake: &mut Lake, t: DatasetKey) {
    lake.tombstone(t, &ids(&[5]));
    lake.seal(t).await.expect("a file");
    lake.compact(t).await.expect("a file");
}

#[tokio::test]
async fn a_query_that_was_planned_before_an_expire_shows_no_deleted_row() {
    // One partition of one file: no task of its own starts to read before the answer is polled.
    let mut lake = Lake::with(|config| config.target_partitions = 1, |view| view);
    let t = lake.register("t", keyed_schema());
    lake.append(t, &rows(&[(1, None, None), (2, None, None), (4, None, None), (5, None, None)]));
    lake.seal(t).await.expect("a file");
    lake.tombstone(t, &ids(&[2]));
    let stream = lake.start("SELECT id FROM t").await.expect("plans");
    lake.tombstone(t, &ids(&[5]));
    lake.compact(t).await.expect("a file");
    let floor = lake.at;
    lake.expire(t, floor);
    let error = stream.collect().await.expect_err("its past is gone");
    let below = matches!(&error, Error::BelowFloor { floor: lowest, .. } if *lowest == floor);
    assert!(below && error.kind() == ErrorKind::OutOfRange, "{error:?}");
    assert_eq!(lake.sql("SELECT id FROM t").await, ["1", "4"]);
}

/// Runs a query at an index whose past goes before the `skip`-th read of the metadata.
async fn expired_at(sql: &str, skip: u64, purged: bool) -> (Result<Vec<String>, Error>, bool) {
    let (mut lake, t, hook) = hooked().await;
    let at = lake.at;
    replace_all(&mut lake, t).await;
    if purged {
        lake.log.purge_below(lake.at.next());
    }
    let (store, floor) = (Arc::clone(&lake.store), lake.at);
    let expire = move || {
        let command = Command::Expire(Expire { dataset: t, floor });
        apply(&store, floor.next(), command, &Bytes::new());
    };
    hook.arm(skip, Box::new(expire));
    let answer = match lake.engine.run(sql, QueryRequest::at(at)).await {
        Ok(stream) => stream.collect().await,
        Err(error) => Err(error),
    };
    (answer.map(|batches| crate::lake::lines(&batches)), !hook.is_armed())
}

#[tokio::test]
async fn an_expire_between_any_two_reads_of_a_query_changes_no_answer() {
    for purged in [false, true] {
        for sql in ["SELECT id FROM t", "SELECT id FROM T"] {
            let mut refused = 0;
            for skip in 0.. {
                let (answer, expired) = expired_at(sql, skip, purged).await;
                match answer {
                    Ok(lines) => assert_eq!(lines, SHOWN, "{sql} at read {skip}"),
                    Err(Error::BelowFloor { .. }) => refused += 1,
                    Err(other) => panic!("{sql} at read {skip}: {other:?}"),
                }
                if !expired {
                    break;
                }
            }
            assert!(10 < refused, "{sql} was refused {refused} times only");
        }
    }
}

#[tokio::test]
async fn a_drop_between_any_two_reads_of_a_query_is_never_an_empty_table() {
    for skip in 0.. {
        let (lake, t, hook) = hooked().await;
        let (store, at) = (Arc::clone(&lake.store), lake.at);
        let drop_and_expire = move || {
            let drop = alluvium_types::Drop { dataset: t };
            apply(&store, at.next(), Command::Drop(drop), &Bytes::new());
            let expire = Expire { dataset: t, floor: at.next() };
            apply(&store, at.next().next(), Command::Expire(expire), &Bytes::new());
        };
        hook.arm(skip, Box::new(drop_and_expire));
        match lake.try_sql("SELECT id FROM t").await {
            Ok(batches) => assert_eq!(crate::lake::lines(&batches), SHOWN, "at read {skip}"),
            Err(Error::BelowFloor { .. }) => {}
            Err(other) => panic!("at read {skip}: {other:?}"),
        }
        if hook.is_armed() {
            break;
        }
    }
}

#[tokio::test]
async fn what_one_dataset_has_expired_closes_no_other() {
    let (mut lake, t, _) = hooked().await;
    let old = lake.at;
    let other = lake.register("other", keyed_schema());
    let both = lake.append(other, &rows(&[(1, None, None)]));
    for _ in 0..2 {
        // The second expire prunes the record that the first one replaced.
        lake.tombstone(t, &ids(&[1]));
        let floor = lake.at;
        lake.expire(t, floor);
    }
    for name in ["t", "T", "\"t\""] {
        let error = lake.error(&format!("SELECT id FROM {name} AS OF {old}")).await;
        let below = matches!(&error, Error::BelowFloor { dataset, .. } if dataset == "t");
        assert!(below, "{name}: {error:?}");
    }
    assert_eq!(lake.sql(&format!("SELECT id FROM other AS OF {both}")).await, ["1"]);
    assert_eq!(lake.sql(&format!("SELECT id FROM OTHER AS OF {both}")).await, ["1"]);
    let error = lake.error(&format!("SELECT id FROM othr AS OF {both}")).await;
    assert!(matches!(error, Error::TableNotFound { .. }), "{error:?}");
    for table in ["datasets", "files", "tombstones"] {
        let count = if table == "datasets" { "1" } else { "0" };
        let sql = format!("SELECT count(*) FROM system.{table} AS OF {both}");
        assert_eq!(lake.sql(&sql).await, [count], "{sql}");
    }
}
