//! What is wrong with a value that came from outside. Every variant is the caller's to fix.

use crate::DataType;

/// A name, schema, key or frame that is not legal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name has no characters.
    #[error("a dataset name must have at least one character")]
    NameEmpty,
    /// The name is too long.
    #[error("a dataset name has at most {limit} characters, this one has {length}")]
    NameTooLong {
        /// The limit.
        limit: usize,
        /// The length found.
        length: usize,
    },
    /// A character that names do not allow.
    #[error(
        "illegal character {character:?} at position {position} of a dataset name: allowed are letters, digits, '_', '-' and, not first, '.'"
    )]
    NameCharacter {
        /// The character.
        character: char,
        /// Its position, in characters from zero.
        position: usize,
    },
    /// Letters of two scripts in one name, where one may be taken for the other.
    #[error(
        "the letter {character:?} at position {position} of a dataset name is of another script than those before it, and can be taken for one of them"
    )]
    NameMixed {
        /// The first letter of the other script.
        character: char,
        /// Its position, in characters from zero.
        position: usize,
    },
    /// A name of another script that reads as a Latin one.
    #[error("the name {name:?} has only letters that look like Latin ones")]
    NameLookAlike {
        /// The name.
        name: String,
    },
    /// A name that means something else.
    #[error("the name {name:?} is reserved")]
    NameReserved {
        /// The name.
        name: String,
    },
    /// A schema without columns.
    #[error("a schema must have at least one column")]
    SchemaEmpty,
    /// Too many columns.
    #[error("a schema has at most {limit} columns, this one has {count}")]
    TooManyColumns {
        /// The limit.
        limit: usize,
        /// The number found.
        count: usize,
    },
    /// Two columns that SQL could not tell apart.
    #[error("column {name:?} occurs twice (column names differ by more than case)")]
    DuplicateColumn {
        /// The second of the two.
        name: String,
    },
    /// A column name that is empty, too long, or has control characters.
    #[error("illegal column name {name:?}: {reason}")]
    ColumnName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A column name that Alluvium itself uses.
    #[error(
        "column name {name:?} is reserved: names that start with \"_alluvium\" belong to the system"
    )]
    ColumnReserved {
        /// The name.
        name: String,
    },
    /// Types nested too deep.
    #[error("column {name:?} nests deeper than {limit} levels")]
    NestedTooDeep {
        /// The column.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// A parameter of a type out of its range.
    #[error("column {name:?} has an impossible type {data_type}")]
    IllegalType {
        /// The column.
        name: String,
        /// Its type.
        data_type: DataType,
    },
    /// A key column that the schema does not have.
    #[error("key column {name:?} is not a column of the schema")]
    KeyMissing {
        /// The column.
        name: String,
    },
    /// A key column listed twice.
    #[error("key column {name:?} is listed twice")]
    KeyTwice {
        /// The column.
        name: String,
    },
    /// A key column that may be NULL.
    #[error("key column {name:?} must not be nullable: a NULL key cannot be named by a tombstone")]
    KeyNullable {
        /// The column.
        name: String,
    },
    /// A key column of a type without exact equality.
    #[error("key column {name:?} has type {data_type}, which has no exact equality")]
    KeyType {
        /// The column.
        name: String,
        /// Its type.
        data_type: DataType,
    },
    /// Too many key columns.
    #[error("a key has at most {limit} columns, this one has {count}")]
    TooManyKeyColumns {
        /// The limit.
        limit: usize,
        /// The number found.
        count: usize,
    },
    /// A key that is too long.
    #[error("an encoded key has at most {limit} bytes, this one has {length}")]
    KeyTooLong {
        /// The limit.
        limit: usize,
        /// The length found.
        length: usize,
    },
    /// Too many keys in one block.
    #[error("a key block has at most {limit} keys, this one has {count}")]
    TooManyKeys {
        /// The limit.
        limit: u32,
        /// The number found.
        count: u64,
    },
    /// The same key twice in one upsert. People count rows from one, so the text does.
    #[error(
        "the same key occurs twice in one upsert, in rows {} and {}",
        .first.saturating_add(1),
        .second.saturating_add(1)
    )]
    DuplicateKey {
        /// The position of the first row, from zero.
        first: u64,
        /// The position of the second row, from zero.
        second: u64,
    },
    /// A key block whose keys are not sorted, unique and complete.
    #[error("a key block is damaged: {reason}")]
    KeyBlock {
        /// What was found.
        reason: &'static str,
    },
    /// An entry frame that is not one.
    #[error("an entry frame is damaged: {reason}")]
    Frame {
        /// What was found.
        reason: &'static str,
    },
    /// A frame written by a newer version.
    #[error("an entry has format version {found}, this program reads up to {supported}")]
    NewerFormat {
        /// The version in the frame.
        found: u16,
        /// The newest this program reads.
        supported: u16,
    },
    /// A part of an entry over its limit.
    #[error("the {part} of an entry has {length} bytes, the limit is {limit}")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// The length found.
        length: u64,
        /// The limit.
        limit: u64,
    },
}
