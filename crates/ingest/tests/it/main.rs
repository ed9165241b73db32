//! Files as a user has them: good ones of every format, and each way in which one can be bad.

mod bad;
mod formats;
mod mangled;

use alluvium_ingest::{Error, Source, open};
use alluvium_types::{DataType, Field, FieldId, Schema, TimeUnit};
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;

/// A file that lives as long as the value.
struct TestFile {
    dir: tempfile::TempDir,
    name: &'static str,
}

impl TestFile {
    #[expect(clippy::disallowed_methods, reason = "a test's file need not survive a power cut")]
    fn new(name: &'static str, content: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::write(dir.path().join(name), content).expect("write");
        Self { dir, name }
    }

    fn source(&self) -> Source {
        Source::at(self.dir.path().join(self.name))
    }

    fn read(&self, schema: Option<&Schema>) -> Result<Vec<RecordBatch>, Error> {
        open(&self.source(), schema)?.collect()
    }

    /// Replaces the directory in a message: it differs from run to run.
    fn plain(&self, message: &str) -> String {
        message.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field { id: FieldId(0), name: name.to_owned(), data_type, nullable }
}

/// A dataset with one column of each kind of trouble.
fn parcels() -> Schema {
    Schema {
        fields: vec![
            field("id", DataType::Int64, false),
            field("city", DataType::Utf8, true),
            field("weight", DataType::Float64, true),
            field("price", DataType::Decimal128(10, 2), true),
            field("sent", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ],
        key_columns: vec!["id".to_owned()],
    }
}

fn show(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).expect("printable").to_string()
}
