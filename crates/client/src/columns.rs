//! The schema of a dataset, as an answer describes it.
//!
//! It must not guess: what an answer lacks is an error. Invariant: columns keep their identities.

use alluvium_messages::{Error, fields_from};
use alluvium_proto::v1;
use alluvium_types::Schema;

/// Reads the columns and keys of a dataset, the columns with their identities.
///
/// # Errors
/// What is missing or impossible in them.
pub fn schema_of(dataset: &v1::Dataset) -> Result<Schema, Error> {
    let fields = fields_from(dataset.columns.clone())?;
    Ok(Schema { fields, key_columns: dataset.key_columns.clone() })
}

#[cfg(test)]
mod tests {
    use alluvium_messages::field_to;
    use alluvium_types::{DataType, Field, FieldId};

    use super::*;

    #[test]
    fn columns_come_back_as_they_went_and_what_an_answer_lacks_is_named() {
        let field = |id: u32, data_type| Field {
            id: FieldId(id),
            name: format!("c{id}"),
            data_type,
            nullable: id == 2,
        };
        let fields = vec![field(7, DataType::Int64), field(2, DataType::Utf8)];
        let key_columns = vec!["c7".to_owned()];
        let columns = fields.iter().map(field_to).collect();
        let mut message =
            v1::Dataset { columns, key_columns: key_columns.clone(), ..v1::Dataset::default() };
        assert_eq!(schema_of(&message), Ok(Schema { fields, key_columns }));
        message.columns[1].r#type = None;
        let lacks = schema_of(&message).expect_err("it lacks a type").to_string();
        assert!(lacks.contains("c2") && lacks.contains("type"), "{lacks}");
    }
}
