//! What can go wrong with a query. Clonable, because one failure may reach several waiting operators.

use std::sync::Arc;

use datafusion::error::DataFusionError;

use alluvium_materialize::LogError;
use alluvium_state_machine::ViewError;
use alluvium_types::{ErrorKind, LogIndex};

/// A failure on its way through DataFusion.
pub type SharedError = Arc<dyn std::error::Error + Send + Sync>;

/// A query that could not be answered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not SQL.
    #[error("syntax error at line {line}, column {column}: {message}")]
    Syntax {
        /// What the parser expected.
        message: String,
        /// The line, from one.
        line: u64,
        /// The column, from one.
        column: u64,
    },
    /// The statement does more than read.
    #[error("{statement} is refused: only SELECT, EXPLAIN, SHOW and DESCRIBE are answered")]
    NotAQuery {
        /// The statement's first word.
        statement: String,
    },
    /// More or less than one statement.
    #[error("exactly one statement is answered, this text has {count}")]
    StatementCount {
        /// How many there are.
        count: usize,
    },
    /// Longer or deeper than planning takes.
    #[error("the text has {value} {what}, the limit is {limit}")]
    TooComplex {
        /// What was counted. Counting levels stops at the first one too many.
        what: &'static str,
        /// How many there are.
        value: usize,
        /// The most there may be.
        limit: usize,
    },
    /// No such table at that index.
    #[error("table {name:?} does not exist at index {at}{}", did_you_mean(.suggestion.as_deref()))]
    TableNotFound {
        /// The name asked for.
        name: String,
        /// The index asked for.
        at: LogIndex,
        /// The nearest name.
        suggestion: Option<String>,
    },
    /// A name that fits several datasets.
    #[error("table {name:?} is ambiguous: quote one of {candidates:?}")]
    TableAmbiguous {
        /// The name asked for.
        name: String,
        /// What it may mean.
        candidates: Vec<String>,
    },
    /// No such column.
    #[error("column {name:?} does not exist{}", did_you_mean(.suggestion.as_deref()))]
    ColumnNotFound {
        /// The name asked for.
        name: String,
        /// The nearest name.
        suggestion: Option<String>,
    },
    /// The statement parses but means nothing.
    #[error("the statement cannot be planned")]
    Plan {
        /// Why.
        #[source]
        source: Arc<DataFusionError>,
    },
    /// AS OF something other than an index.
    #[error("AS OF takes a log index, at line {line}, column {column}")]
    AsOfNotAnIndex {
        /// The line, from one.
        line: u64,
        /// The column, from one.
        column: u64,
    },
    /// AS OF an index that is not applied here.
    #[error("AS OF {asked} is ahead of this query's index {at}")]
    AsOfAhead {
        /// The index asked for.
        asked: LogIndex,
        /// The query's own.
        at: LogIndex,
    },
    /// Below the retention floor.
    #[error("dataset {dataset:?} can be read from index {floor} on, not at {asked}")]
    BelowFloor {
        /// The dataset.
        dataset: String,
        /// The index asked for.
        asked: LogIndex,
        /// The lowest index that is kept.
        floor: LogIndex,
    },
    /// A data file is missing or its bytes are not those that were attested.
    #[error("dataset {dataset}: data file {file} ({key} in bucket {bucket}) cannot be believed")]
    DataFile {
        /// The dataset's name, or its id when the name is not known.
        dataset: String,
        /// The file.
        file: u64,
        /// The object's key.
        key: String,
        /// The bucket.
        bucket: String,
        /// What was found.
        #[source]
        source: SharedError,
    },
    /// A bucket failed; the file in it may be sound.
    #[error("a bucket cannot be read")]
    Storage {
        /// Why.
        #[source]
        source: SharedError,
    },
    /// A dataset names a bucket that this node does not have.
    #[error("bucket {bucket:?} is not known to this node")]
    BucketUnknown {
        /// The bucket.
        bucket: String,
    },
    /// A delta cannot be read from the log.
    #[error("dataset {dataset}: rows at index {index} cannot be read")]
    Delta {
        /// The dataset's name.
        dataset: String,
        /// The delta's index.
        index: LogIndex,
        /// Why.
        #[source]
        source: SharedError,
    },
    /// Rows left the log and no file that covers them is known.
    #[error("dataset {dataset}: rows at index {index} are in neither the log nor a file")]
    DeltaGone {
        /// The dataset's name.
        dataset: String,
        /// The delta's index.
        index: LogIndex,
    },
    /// A tombstone cannot be read: what is deleted cannot be proven, so nothing is answered.
    #[error("dataset {dataset}: tombstones cannot be read")]
    Tombstones {
        /// The dataset's name.
        dataset: String,
        /// Why.
        #[source]
        source: SharedError,
    },
    /// The metadata cannot be read.
    #[error("metadata cannot be read")]
    Metadata {
        /// Why.
        #[source]
        source: Arc<ViewError>,
    },
    /// An object of the catalog lacks a part that it must have.
    #[error("dataset {dataset}: schema {version} is missing from the metadata")]
    SchemaMissing {
        /// The dataset's name.
        dataset: String,
        /// The schema.
        version: u32,
    },
    /// The memory limit was met.
    #[error("the query needs more than its memory limit of {limit_bytes} bytes")]
    Memory {
        /// The limit.
        limit_bytes: usize,
        /// Which operator met it.
        #[source]
        source: Arc<DataFusionError>,
    },
    /// The time limit was met.
    #[error("the query took longer than its limit of {timeout_ms} ms")]
    Deadline {
        /// The limit.
        timeout_ms: u64,
    },
    /// The caller gave up.
    #[error("the query was cancelled")]
    Cancelled,
    /// A predicate that two evaluations could answer differently, or that is no predicate.
    #[error("the predicate is refused: {reason}")]
    Predicate {
        /// What is wrong with it.
        reason: PredicateFault,
    },
    /// Hiding these keys would hide rows that do not match.
    #[error("dataset {dataset}: a key that matches also has visible rows that do not match")]
    KeyNotUnique {
        /// The dataset's name.
        dataset: String,
        /// The key, encoded.
        key: Vec<u8>,
    },
    /// Rows of a type or shape that cannot be converted.
    #[error("rows cannot be converted")]
    Rows {
        /// Why.
        #[source]
        source: SharedError,
    },
    /// The engine could not be set up.
    #[error("the query engine cannot be set up")]
    Setup {
        /// Why.
        #[source]
        source: Arc<DataFusionError>,
    },
    /// A value in the rows made the statement fail: a division by zero, a cast that does not fit.
    #[error("the statement failed on a value")]
    Evaluation {
        /// Why.
        #[source]
        source: Arc<DataFusionError>,
    },
    /// A bug, here or in DataFusion.
    #[error("the query failed unexpectedly")]
    Internal {
        /// Why.
        #[source]
        source: Arc<DataFusionError>,
    },
}

/// What is wrong with a predicate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredicateFault {
    /// A function whose value depends on more than its arguments.
    #[error("function {function} depends on more than its arguments")]
    Volatile {
        /// The function.
        function: String,
    },
    /// A subquery.
    #[error("subqueries are not allowed")]
    Subquery,
    /// An aggregate or a window function.
    #[error("aggregates and window functions are not allowed")]
    Aggregate,
    /// A parameter without a value.
    #[error("parameters are not allowed")]
    Parameter,
    /// Not true or false.
    #[error("it is neither true nor false but {data_type}")]
    NotBoolean {
        /// Its type.
        data_type: String,
    },
    /// The dataset has no key.
    #[error("the dataset has no key columns")]
    Keyless,
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

impl Error {
    pub(crate) fn tombstones(dataset: &str, source: alluvium_rows::Error) -> Self {
        Self::Tombstones { dataset: dataset.to_owned(), source: Arc::new(source) }
    }

    /// Returns the kind by which protocols report it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax { .. }
            | Self::NotAQuery { .. }
            | Self::StatementCount { .. }
            | Self::TableAmbiguous { .. }
            | Self::Plan { .. }
            | Self::AsOfNotAnIndex { .. }
            | Self::Evaluation { .. }
            | Self::Predicate { .. } => ErrorKind::InvalidArgument,
            Self::TableNotFound { .. } | Self::ColumnNotFound { .. } => ErrorKind::NotFound,
            Self::AsOfAhead { .. } | Self::BelowFloor { .. } => ErrorKind::OutOfRange,
            Self::DataFile { .. } | Self::DeltaGone { .. } => ErrorKind::Corrupt,
            Self::SchemaMissing { .. } => ErrorKind::Corrupt,
            Self::Storage { .. } | Self::BucketUnknown { .. } => ErrorKind::Unavailable,
            Self::Delta { source, .. } | Self::Tombstones { source, .. } => kind_below(source),
            Self::Metadata { source } => source.kind(),
            Self::Rows { .. } => ErrorKind::Corrupt,
            Self::Memory { .. } | Self::TooComplex { .. } => ErrorKind::ResourceExhausted,
            Self::Deadline { .. } | Self::Cancelled => ErrorKind::DeadlineExceeded,
            Self::KeyNotUnique { .. } => ErrorKind::Precondition,
            // A disk that fails under the directory for spilled rows is no bug.
            Self::Setup { source } if has_io_cause(source.as_ref()) => ErrorKind::Unavailable,
            Self::Setup { .. } | Self::Internal { .. } => ErrorKind::Internal,
        }
    }
}

fn has_io_cause(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| error.is::<std::io::Error>())
}

/// The kind of one of our own errors below, else damage: rows and tombstones of the log never just vanish.
fn kind_below(source: &SharedError) -> ErrorKind {
    if let Some(own) = source.downcast_ref::<Error>() {
        return own.kind();
    }
    if let Some(entry) = source.downcast_ref::<LogError>() {
        return entry.kind();
    }
    if let Some(view) = source.downcast_ref::<ViewError>() {
        return view.kind();
    }
    let rows = source.downcast_ref::<alluvium_materialize::Error>();
    rows.map_or(ErrorKind::Corrupt, alluvium_materialize::Error::kind)
}

impl From<ViewError> for Error {
    fn from(source: ViewError) -> Self {
        match source {
            ViewError::BelowFloor { dataset, asked, floor } => {
                Self::BelowFloor { dataset, asked, floor }
            }
            ViewError::Read { .. } | ViewError::Decode { .. } | ViewError::Dangling { .. } => {
                Self::Metadata { source: Arc::new(source) }
            }
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use alluvium_state_machine::Table;

    use super::*;

    #[test]
    fn a_log_or_a_store_that_cannot_be_read_is_told_from_one_that_is_damaged() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt] {
            let read =
                || LogError::Read { index: LogIndex(7), kind, source: "it was planted".into() };
            let delta = |source: SharedError| {
                Error::Delta { dataset: "t".to_owned(), index: LogIndex(7), source }.kind()
            };
            assert_eq!(delta(Arc::new(read())), kind);
            assert_eq!(delta(Arc::new(alluvium_materialize::Error::from(read()))), kind);
            let (table, source) = (Table::Name, "it was planted".into());
            let view = ViewError::Read { table, kind, source };
            assert_eq!(Error::from(view).kind(), kind);
        }
    }

    #[test]
    fn a_disk_that_fails_under_an_engine_that_is_set_up_is_no_bug() {
        let setup = |source| Error::Setup { source: Arc::new(source) }.kind();
        let failed = std::io::Error::other("the disk is gone");
        assert_eq!(setup(DataFusionError::IoError(failed)), ErrorKind::Unavailable);
        let other = DataFusionError::Internal("wrong".to_owned());
        assert_eq!(setup(other), ErrorKind::Internal);
    }
}
