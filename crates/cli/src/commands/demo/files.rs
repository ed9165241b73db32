//! Data files read on their own: with the Parquet reader alone, past the node, its log and its queries.
//!
//! It must not use anything of ours to find or read rows, or it would prove nothing. Invariant: every file
//! below the directory that has Parquet's name or its first bytes is read to its end.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::failure::Failure;

/// What is in the data files below a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) files: u64,
    pub(super) rows: u64,
    /// Rows whose column has the value.
    pub(super) matching: u64,
}

/// Reads every data file that has `column` and counts the rows in which it is `value`.
pub(super) fn count(directory: &Path, column: &str, value: &str) -> Result<Found, Failure> {
    let mut found = Found::default();
    for path in parquet_files(directory)? {
        count_file(&path, column, value, &mut found)?;
    }
    Ok(found)
}

fn parquet_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::io(&format!("list {}", directory.display()), &error);
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if is_parquet(&path).map_err(failed)? {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_parquet(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start == b"PAR1" || path.extension().is_some_and(|extension| extension == "parquet"))
}

fn count_file(path: &Path, column: &str, value: &str, found: &mut Found) -> Result<(), Failure> {
    let name = path.display();
    let bad =
        |error: &dyn std::fmt::Display| Failure::check(format!("cannot read {name}: {error}"));
    let file = File::open(path).map_err(|error| bad(&error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| bad(&error))?;
    let Some(position) = builder.schema().fields().iter().position(|f| f.name() == column) else {
        return Ok(());
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [position]);
    let reader = builder.with_projection(mask).build().map_err(|error| bad(&error))?;
    found.files += 1;
    for batch in reader {
        let batch = batch.map_err(|error| bad(&error))?;
        let texts = cast(batch.column(0), &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        found.rows += texts.len() as u64;
        found.matching += texts.iter().filter(|text| *text == Some(value)).count() as u64;
    }
    Ok(())
}
