//! A node in a temporary directory, and the rows that tests put into it.

use std::path::Path;
use std::sync::Arc;

use alluvium_engine::{Caller, Config, Error, Node, RegisterOptions, SqlOptions};
use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tokio::runtime::Handle;

/// A node that is shut down when the test is done with it: a process that exits beside threads of the store may
/// abort.
pub(crate) struct Opened(Option<Node>);

impl Opened {
    /// Stops the node.
    pub(crate) async fn shutdown(mut self) -> Result<(), Error> {
        self.0.take().expect("it is stopped once").shutdown().await
    }
}

impl From<Node> for Opened {
    fn from(node: Node) -> Self {
        Self(Some(node))
    }
}

impl std::ops::Deref for Opened {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.0.as_ref().expect("it is not stopped")
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(node) = self.0.take().filter(|_| !std::thread::panicking()) else { return };
        // The test may have stopped it already, through another handle.
        let stopping = async { drop(node.shutdown().await) };
        tokio::task::block_in_place(|| Handle::current().block_on(stopping));
    }
}

/// A node and the directory it lives in.
pub(crate) struct Lake {
    pub(crate) node: Opened,
    pub(crate) root: tempfile::TempDir,
}

impl Lake {
    /// Opens a node in a new directory.
    pub(crate) async fn new() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let node = open(&root.path().join("node")).await.expect("a new directory opens");
        Self { node: node.into(), root }
    }

    /// Opens a node with a keyed dataset `t (key utf8, value int64)`.
    pub(crate) async fn keyed() -> Self {
        let lake = Self::new().await;
        let options = RegisterOptions::keyed(&["key"]);
        lake.node.register(&caller(), "t", schema(), options).await.expect("registers");
        lake
    }

    pub(crate) fn dir(&self) -> std::path::PathBuf {
        self.root.path().join("node")
    }

    /// Stops the node and opens it again.
    pub(crate) async fn restart(self) -> Self {
        let dir = self.dir();
        self.node.shutdown().await.expect("stops");
        let node = open(&dir).await.expect("opens again");
        Self { node: node.into(), root: self.root }
    }

    /// Appends rows to `t`.
    pub(crate) async fn append(&self, rows: &[(&str, i64)]) -> u64 {
        self.node.append(&caller(), "t", vec![batch(rows)]).await.expect("appends").index.0
    }

    /// Upserts rows into `t`.
    pub(crate) async fn upsert(&self, rows: &[(&str, i64)]) -> u64 {
        self.node.upsert(&caller(), "t", vec![batch(rows)]).await.expect("upserts").index.0
    }

    /// Hides keys of `t`.
    pub(crate) async fn tombstone(&self, keys: &[&str]) -> u64 {
        let keys = keys.iter().map(|&key| vec![key.to_owned()]).collect();
        let keys = alluvium_engine::TombstoneKeys::Texts(keys);
        self.node.tombstone(&caller(), "t", keys).await.expect("hides").index.0
    }

    /// Returns the rows of `t`, in order.
    pub(crate) async fn rows(&self) -> Vec<(String, i64)> {
        self.rows_as_of(None).await.expect("reads")
    }

    /// Returns the rows of `t` as of an index, in order.
    pub(crate) async fn rows_as_of(&self, at: Option<u64>) -> Result<Vec<(String, i64)>, Error> {
        let options =
            SqlOptions { as_of: at.map(alluvium_types::LogIndex), ..SqlOptions::default() };
        let text = "SELECT key, value FROM t ORDER BY key, value";
        let batches = self.node.sql(text, options).await?.collect().await?;
        Ok(batches.iter().flat_map(pairs).collect())
    }

    /// Runs a query whose answer is one number.
    pub(crate) async fn number(&self, text: &str) -> Result<i64, Error> {
        let batches = self.node.sql(text, SqlOptions::default()).await?.collect().await?;
        let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect("one row");
        Ok(batch.column(0).as_primitive::<Int64Type>().value(0))
    }
}

/// Opens a node.
pub(crate) async fn open(dir: &Path) -> Result<Node, Error> {
    Node::open(Config { segment_bytes: 16 * 1024 * 1024, ..Config::single(dir) }).await
}

pub(crate) fn caller() -> Caller {
    Caller::named("test")
}

pub(crate) fn schema() -> SchemaRef {
    let key = Field::new("key", DataType::Utf8, false);
    Arc::new(Schema::new(vec![key, Field::new("value", DataType::Int64, false)]))
}

pub(crate) fn batch(rows: &[(&str, i64)]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_new(schema(), vec![keys, values]).expect("columns of their types")
}

fn pairs(batch: &RecordBatch) -> Vec<(String, i64)> {
    let keys = arrow::compute::cast(batch.column(0), &DataType::Utf8).expect("text is text");
    let values = batch.column(1).as_primitive::<Int64Type>();
    let keys = keys.as_string::<i32>().iter().flatten().map(str::to_owned);
    keys.zip(values.values().iter().copied()).collect()
}

/// Makes expected rows.
pub(crate) fn expect(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|&(key, value)| (key.to_owned(), value)).collect()
}
