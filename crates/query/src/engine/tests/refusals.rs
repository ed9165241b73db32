//! What is refused, and with which words.

use std::time::Duration;

use alluvium_types::ErrorKind;

use super::*;

#[tokio::test]
async fn everything_but_questions_is_refused() {
    let (lake, _) = small().await;
    let refused = [
        "CREATE TABLE x (a int)",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE t",
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET n = 1",
        "DELETE FROM t",
        "COPY t TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "SELECT 1 INTO x",
        "WITH x AS (INSERT INTO t VALUES (1) RETURNING id) SELECT * FROM x",
        "EXPLAIN INSERT INTO t VALUES (1)",
        "EXPLAIN ANALYZE DELETE FROM t",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "CREATE FUNCTION f() RETURNS int RETURN 1",
    ];
    for sql in refused {
        let error = lake.error(sql).await;
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{sql}: {error:?}");
    }
    let files = [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd.csv\"",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('x')",
        "SELECT * FROM \"http://example.com/x.parquet\"",
    ];
    for sql in files {
        let error = lake.error(sql).await;
        let refused = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidArgument);
        assert!(refused, "{sql}: {error:?}");
    }
    let count = lake.error("SELECT 1; SELECT 2").await;
    assert!(matches!(count, Error::StatementCount { count: 2 }), "{count:?}");
    assert_eq!(lake.sql("SELECT count(*) FROM t").await, ["3"]);
}

#[tokio::test]
async fn questions_about_the_catalog_are_answered() {
    let (lake, _) = small().await;
    let described = lake.sql("DESCRIBE t").await;
    assert_eq!(described, ["id|Int64|NO", "n|Int32|YES", "v|Utf8|YES"]);
    assert!(lake.sql("SHOW TABLES").await.join("\n").contains("|t|"));
    assert_eq!(lake.sql("SHOW COLUMNS FROM t").await.len(), 3);
}

#[tokio::test]
async fn a_syntax_error_says_where() {
    let (lake, _) = small().await;
    let cases = [
        ("SELECT *\nFROM t WHERE", 2),
        ("SELEC 1", 1),
        ("SELECT 'open", 1),
        ("SELECT (1", 1),
        ("SELECT id\nFROM t\nWHERE id = = 2", 3),
    ];
    for (sql, expected) in cases {
        let error = lake.error(sql).await;
        let Error::Syntax { line, column, .. } = error else { panic!("{sql}: {error:?}") };
        assert_eq!(line, expected, "{sql}");
        assert!(0 < column, "{sql}");
    }
}

#[tokio::test]
async fn below_the_floor_nothing_is_answered() {
    let (mut lake, dataset) = small().await;
    let floor = LogIndex(5);
    let expire = alluvium_types::Command::Expire(alluvium_types::Expire { dataset, floor });
    lake.propose(expire, bytes::Bytes::new());
    let error = lake.error("SELECT * FROM t AS OF 4").await;
    assert!(matches!(error, Error::BelowFloor { floor: LogIndex(5), .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    assert_eq!(lake.sql("SELECT count(*) FROM t AS OF 5").await, ["4"]);
}

const LARGE: &str = "SELECT a.value % 1000 AS g, b.value AS x \
                     FROM generate_series(1, 2000) a CROSS JOIN generate_series(1, 2000) b";

#[tokio::test]
async fn a_query_over_its_memory_limit_names_the_limit() {
    let lake = Lake::new();
    let memory_bytes = Some(1 << 20);
    let request = QueryRequest { memory_bytes, ..QueryRequest::at(lake.at) };
    let sql = format!("SELECT array_agg(x) FROM ({LARGE})");
    let stream = lake.engine.run(&sql, request).await.expect("plans");
    let error = stream.collect().await.expect_err("too large");
    assert!(matches!(error, Error::Memory { limit_bytes: 1_048_576, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

#[tokio::test]
async fn a_sort_over_its_memory_limit_spills() {
    let lake = Lake::new();
    let request = QueryRequest { memory_bytes: Some(32 << 20), ..QueryRequest::at(lake.at) };
    let sql = "SELECT value, md5(CAST(value AS VARCHAR)) m FROM generate_series(1, 1000000) \
               ORDER BY m";
    let stream = lake.engine.run(sql, request).await.expect("plans");
    let rows: usize =
        stream.collect().await.expect("spills").iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 1_000_000);
}

#[tokio::test]
async fn a_query_past_its_deadline_ends() {
    let lake = Lake::new();
    let timeout = Some(Duration::from_millis(30));
    let request = QueryRequest { timeout, ..QueryRequest::at(lake.at) };
    let sql = format!("SELECT count(DISTINCT g * 2000 + x) FROM ({LARGE})");
    let outcome = match lake.engine.run(&sql, request).await {
        Ok(stream) => stream.collect().await.map(|_| ()),
        Err(error) => Err(error),
    };
    let error = outcome.expect_err("too late");
    assert!(matches!(error, Error::Deadline { timeout_ms: 30 }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_cancelled_query_ends() {
    let lake = Lake::new();
    let request = QueryRequest::at(lake.at);
    let cancel = request.cancel.clone();
    let stream = lake.engine.run(LARGE, request).await.expect("runs");
    cancel.cancel();
    let error = stream.collect().await.expect_err("cancelled");
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    let request = QueryRequest { cancel, ..QueryRequest::at(lake.at) };
    let error = lake.engine.run("SELECT 1", request).await.expect_err("cancelled before it began");
    assert!(matches!(error, Error::Cancelled), "{error:?}");
}

#[tokio::test]
async fn an_error_of_values_is_the_callers() {
    let (lake, _) = small().await;
    let error = lake.error("SELECT 1 / (id - id) FROM t").await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    let error = lake.error("SELECT no_such_function(id) FROM t").await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
}
