//! Schemas as the log carries them: canonical types, field ids, key columns.

use std::fmt;

use bincode::{Decode, Encode};

use crate::limits::{COLUMN_NAME_BYTES_MAX, COLUMNS_MAX, KEY_COLUMNS_MAX, NESTING_MAX};
use crate::{Error, FieldId, Recipe};

/// The prefix of columns that Alluvium adds to data files.
pub(crate) const RESERVED_PREFIX: &str = "_alluvium";

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum TimeUnit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds.
    Nanosecond,
}

/// A column's type. One type per meaning: all text is `Utf8`, all bytes are `Binary`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum DataType {
    /// True or false.
    Boolean,
    /// 8-bit signed.
    Int8,
    /// 16-bit signed.
    Int16,
    /// 32-bit signed.
    Int32,
    /// 64-bit signed.
    Int64,
    /// 8-bit unsigned.
    UInt8,
    /// 16-bit unsigned.
    UInt16,
    /// 32-bit unsigned.
    UInt32,
    /// 64-bit unsigned.
    UInt64,
    /// 32-bit floating point.
    Float32,
    /// 64-bit floating point.
    Float64,
    /// Text.
    Utf8,
    /// Bytes.
    Binary,
    /// Bytes of one length.
    FixedSizeBinary(u16),
    /// Days since 1970-01-01.
    Date32,
    /// Time of day, in microseconds.
    Time64Microsecond,
    /// A point in time; with a time zone it is an instant, without one a local reading.
    Timestamp(TimeUnit, Option<String>),
    /// Decimal with precision (1 to 38) and scale.
    Decimal128(u8, i8),
    /// A list of one element type.
    List(Box<Field>),
    /// Named fields.
    Struct(Vec<Field>),
}

/// A column, or a field within one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Field {
    /// The column's identity, given by the state machine; zero when nobody gave one yet.
    pub id: FieldId,
    /// Its name. Case is kept; two columns may not differ by case alone.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether NULL is allowed.
    pub nullable: bool,
}

/// The columns of a dataset, in order, and which of them are its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Schema {
    /// The columns.
    pub fields: Vec<Field>,
    /// Names of the key columns, in key order; empty for a keyless dataset.
    pub key_columns: Vec<String>,
}

/// How a dataset is kept.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DatasetOptions {
    /// How its files are written.
    pub recipe: Recipe,
    /// Unsealed bytes at which a file is cut.
    pub seal_bytes: u64,
    /// Unsealed rows at which a file is cut.
    pub seal_rows: u64,
}

impl DatasetOptions {
    /// The options of a dataset whose owner chose none.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            recipe: Recipe::standard(),
            seal_bytes: crate::limits::SEAL_BYTES,
            seal_rows: crate::limits::SEAL_ROWS,
        }
    }
}

/// One step of an evolve command. Columns are named as they are before the command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SchemaChange {
    /// Adds a nullable column at the end; older rows read NULL.
    Add(Field),
    /// Changes a type to one that holds every old value.
    Widen {
        /// The column.
        column: String,
        /// The wider type.
        to: DataType,
    },
    /// Renames a column; its identity stays.
    Rename {
        /// The column.
        column: String,
        /// Its new name.
        to: String,
    },
    /// Removes a column that is not part of the key.
    Drop {
        /// The column.
        column: String,
    },
}

impl Schema {
    /// Returns the column of that exact name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns the key columns in key order.
    ///
    /// # Panics
    /// If a key column is missing: [`Schema::validate`] was not called.
    #[must_use]
    pub fn key_fields(&self) -> Vec<&Field> {
        let find =
            |name: &String| self.field(name).expect("a validated schema has its key columns");
        self.key_columns.iter().map(find).collect()
    }

    /// Checks names, types, limits and keys.
    ///
    /// # Errors
    /// What is wrong with the first bad column.
    pub fn validate(&self) -> Result<(), Error> {
        if self.fields.is_empty() {
            return Err(Error::SchemaEmpty);
        }
        let count = self.fields.iter().map(count_fields).sum();
        if count > COLUMNS_MAX {
            return Err(Error::TooManyColumns { limit: COLUMNS_MAX, count });
        }
        validate_fields(&self.fields, 1)?;
        self.validate_keys()
    }

    fn validate_keys(&self) -> Result<(), Error> {
        let count = self.key_columns.len();
        if count > KEY_COLUMNS_MAX {
            return Err(Error::TooManyKeyColumns { limit: KEY_COLUMNS_MAX, count });
        }
        for (position, name) in self.key_columns.iter().enumerate() {
            if self.key_columns.iter().take(position).any(|earlier| earlier == name) {
                return Err(Error::KeyTwice { name: name.clone() });
            }
            let Some(field) = self.field(name) else {
                return Err(Error::KeyMissing { name: name.clone() });
            };
            if field.nullable {
                return Err(Error::KeyNullable { name: name.clone() });
            }
            if !field.data_type.has_exact_equality() {
                let data_type = field.data_type.clone();
                return Err(Error::KeyType { name: name.clone(), data_type });
            }
        }
        Ok(())
    }
}

fn count_fields(field: &Field) -> usize {
    1 + field.data_type.children().iter().map(count_fields).sum::<usize>()
}

fn validate_fields(fields: &[Field], depth: usize) -> Result<(), Error> {
    for (position, field) in fields.iter().enumerate() {
        validate_column_name(&field.name)?;
        let folded = field.name.to_lowercase();
        if fields.iter().take(position).any(|earlier| earlier.name.to_lowercase() == folded) {
            return Err(Error::DuplicateColumn { name: field.name.clone() });
        }
        validate_type(field, depth)?;
    }
    Ok(())
}

fn validate_column_name(name: &str) -> Result<(), Error> {
    let illegal = |reason| Err(Error::ColumnName { name: name.to_owned(), reason });
    if name.is_empty() {
        return illegal("it is empty");
    }
    if name.len() > COLUMN_NAME_BYTES_MAX {
        return illegal("it is longer than 256 bytes");
    }
    if name.chars().any(char::is_control) {
        return illegal("it has a control character");
    }
    if name.chars().any(is_unseen) {
        return illegal("it has a character that cannot be seen");
    }
    if name.to_lowercase().starts_with(RESERVED_PREFIX) {
        return Err(Error::ColumnReserved { name: name.to_owned() });
    }
    Ok(())
}

/// Says whether a character has no form of its own: two names that differ by it look the same, or one is shown
/// in another order than it is written. Other than for datasets, any letter and sign that can be seen is legal:
/// column names come with people's files.
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

fn validate_type(field: &Field, depth: usize) -> Result<(), Error> {
    if depth > NESTING_MAX {
        return Err(Error::NestedTooDeep { name: field.name.clone(), limit: NESTING_MAX });
    }
    if !field.data_type.is_possible() {
        let data_type = field.data_type.clone();
        return Err(Error::IllegalType { name: field.name.clone(), data_type });
    }
    validate_fields(field.data_type.children(), depth + 1)
}

impl DataType {
    /// Says whether two values are equal exactly when their bytes are: the condition for a key.
    #[must_use]
    pub fn has_exact_equality(&self) -> bool {
        match self {
            Self::Float32 | Self::Float64 | Self::List(_) | Self::Struct(_) => false,
            Self::Boolean
            | Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64
            | Self::Utf8
            | Self::Binary
            | Self::FixedSizeBinary(_)
            | Self::Date32
            | Self::Time64Microsecond
            | Self::Timestamp(..)
            | Self::Decimal128(..) => true,
        }
    }

    /// Says whether every value of this type is also one of `wider`, without rounding.
    ///
    /// A key's encoding must survive widening, so integers widen only within their signedness.
    #[must_use]
    pub fn widens_to(&self, wider: &Self) -> bool {
        match (self.integer_rank(), wider.integer_rank()) {
            (Some((signed, bits)), Some((wider_signed, wider_bits))) => {
                signed == wider_signed && bits < wider_bits
            }
            _ => self.widens_to_non_integer(wider),
        }
    }

    fn widens_to_non_integer(&self, wider: &Self) -> bool {
        match (self, wider) {
            (Self::Float32, Self::Float64) => true,
            (Self::Int8 | Self::Int16 | Self::Int32, Self::Float64) => true,
            (Self::Decimal128(precision, scale), Self::Decimal128(more, same)) => {
                scale == same && precision < more
            }
            _ => false,
        }
    }

    fn is_possible(&self) -> bool {
        if let Self::Decimal128(precision, scale) = self {
            let scale = u8::try_from(*scale);
            return (1..=38).contains(precision) && scale.is_ok_and(|scale| scale <= *precision);
        }
        !matches!(self, Self::FixedSizeBinary(0)) && *self != Self::Struct(Vec::new())
    }

    /// Says whether values of this type are decimals, or hold some.
    #[must_use]
    pub fn holds_decimals(&self) -> bool {
        let mut children = self.children().iter();
        matches!(self, Self::Decimal128(..))
            || children.any(|child| child.data_type.holds_decimals())
    }

    /// Returns the fields within a nested type; none for the others.
    #[must_use]
    pub fn children(&self) -> &[Field] {
        match self {
            Self::List(element) => std::slice::from_ref(element),
            Self::Struct(fields) => fields,
            Self::Boolean
            | Self::Int8
            | Self::Int16
            | Self::Int32
            | Self::Int64
            | Self::UInt8
            | Self::UInt16
            | Self::UInt32
            | Self::UInt64
            | Self::Float32
            | Self::Float64
            | Self::Utf8
            | Self::Binary
            | Self::FixedSizeBinary(_)
            | Self::Date32
            | Self::Time64Microsecond
            | Self::Timestamp(..)
            | Self::Decimal128(..) => &[],
        }
    }

    fn integer_rank(&self) -> Option<(bool, u8)> {
        match self {
            Self::Int8 => Some((true, 8)),
            Self::Int16 => Some((true, 16)),
            Self::Int32 => Some((true, 32)),
            Self::Int64 => Some((true, 64)),
            Self::UInt8 => Some((false, 8)),
            Self::UInt16 => Some((false, 16)),
            Self::UInt32 => Some((false, 32)),
            Self::UInt64 => Some((false, 64)),
            Self::Boolean
            | Self::Float32
            | Self::Float64
            | Self::Utf8
            | Self::Binary
            | Self::FixedSizeBinary(_)
            | Self::Date32
            | Self::Time64Microsecond
            | Self::Timestamp(..)
            | Self::Decimal128(..)
            | Self::List(_)
            | Self::Struct(_) => None,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int8 => f.write_str("int8"),
            Self::Int16 => f.write_str("int16"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::UInt8 => f.write_str("uint8"),
            Self::UInt16 => f.write_str("uint16"),
            Self::UInt32 => f.write_str("uint32"),
            Self::UInt64 => f.write_str("uint64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Utf8 => f.write_str("utf8"),
            Self::Binary => f.write_str("binary"),
            Self::FixedSizeBinary(length) => write!(f, "fixed_size_binary({length})"),
            Self::Date32 => f.write_str("date32"),
            Self::Time64Microsecond => f.write_str("time64(us)"),
            Self::Timestamp(unit, None) => write!(f, "timestamp({})", unit.symbol()),
            Self::Timestamp(unit, Some(zone)) => write!(f, "timestamp({}, {zone})", unit.symbol()),
            Self::Decimal128(precision, scale) => write!(f, "decimal128({precision}, {scale})"),
            Self::List(element) => write!(f, "list<{}>", element.data_type),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (position, field) in fields.iter().enumerate() {
                    let comma = if position > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", field.name, field.data_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

impl TimeUnit {
    /// Returns the unit's symbol: `s`, `ms`, `us` or `ns`.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
            Self::Nanosecond => "ns",
        }
    }
}

#[cfg(test)]
mod tests;
