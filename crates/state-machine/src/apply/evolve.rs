//! Evolve: a dataset gets its next schema, by all steps or none.
//!
//! Invariant: every file has one schema version, so unsealed deltas are cut before the schema
//! changes.

use alluvium_types::{
    DataType, Evolve, Field, Outcome, Rejection, Schema, SchemaChange, SchemaVersion,
};

use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};
use super::register::number_fields;
use super::seal;

pub(super) fn apply(draft: &mut Draft<'_>, command: &Evolve) -> Result<Outcome, Stop> {
    let mut record = draft.live_dataset(command.dataset)?;
    let before = record.schema_version;
    if command.changes.is_empty() {
        return Ok(Outcome::Evolved { schema_version: before });
    }
    let schema = catalog::schema(draft.view(), command.dataset, before, draft.index)?;
    let mut plan = Plan::of(schema, record.next_field);
    command.changes.iter().try_for_each(|change| plan.step(change))?;
    let (schema, next_field) = plan.finish();
    schema.validate().map_err(|error| draft.illegal_value(&error))?;
    assert!(next_field >= record.next_field, "column ids are never reused");

    seal::plan(draft, &record)?;
    let schema_version = SchemaVersion(before.0 + 1);
    record.schema_version = schema_version;
    record.next_field = next_field;
    let mut counters = catalog::counters(draft.view(), command.dataset)?;
    counters.changed_at = draft.index;
    draft.put(Table::Schema, Key::schema(command.dataset, schema_version), &schema)?;
    draft.put(Table::Dataset, Key::dataset(command.dataset), &record)?;
    draft.put_small(Table::Counters, Key::dataset(command.dataset), &counters);
    Ok(Outcome::Evolved { schema_version })
}

/// A schema in change. Steps name columns as they were before the first step.
struct Plan {
    columns: Vec<Column>,
    key_columns: Vec<String>,
    next_field: u32,
}

struct Column {
    /// Its name before; none for an added column, which no step can name.
    before: Option<String>,
    field: Field,
    dropped: bool,
}

impl Plan {
    fn of(schema: Schema, next_field: u32) -> Self {
        let column =
            |field: Field| Column { before: Some(field.name.clone()), field, dropped: false };
        let columns = schema.fields.into_iter().map(column).collect();
        Self { columns, key_columns: schema.key_columns, next_field }
    }

    fn step(&mut self, change: &SchemaChange) -> Result<(), Rejection> {
        match change {
            SchemaChange::Add(field) => self.add(field),
            SchemaChange::Widen { column, to } => self.widen(column, to),
            SchemaChange::Rename { column, to } => {
                self.find(column)?.field.name.clone_from(to);
                Ok(())
            }
            SchemaChange::Drop { column } => {
                if self.key_columns.contains(column) {
                    return Err(Rejection::KeyColumn { column: column.clone() });
                }
                self.find(column)?.dropped = true;
                Ok(())
            }
        }
    }

    fn add(&mut self, field: &Field) -> Result<(), Rejection> {
        if !field.nullable {
            return Err(Rejection::AddedNotNullable { column: field.name.clone() });
        }
        let mut field = field.clone();
        number_fields(&mut field, &mut self.next_field);
        self.columns.push(Column { before: None, field, dropped: false });
        Ok(())
    }

    fn widen(&mut self, column: &str, to: &DataType) -> Result<(), Rejection> {
        let field = &mut self.find(column)?.field;
        if !field.data_type.widens_to(to) {
            let (column, from) = (column.to_owned(), field.data_type.clone());
            return Err(Rejection::NotWider { column, from, to: to.clone() });
        }
        field.data_type = to.clone();
        Ok(())
    }

    fn find(&mut self, name: &str) -> Result<&mut Column, Rejection> {
        let named =
            |column: &&mut Column| !column.dropped && column.before.as_deref() == Some(name);
        let missing = || Rejection::ColumnNotFound { column: name.to_owned() };
        self.columns.iter_mut().find(named).ok_or_else(missing)
    }

    fn finish(self) -> (Schema, u32) {
        let renamed = |key: &String| {
            let mut columns = self.columns.iter();
            let column = columns.find(|column| column.before.as_ref() == Some(key));
            column.expect("a key column is never dropped").field.name.clone()
        };
        let key_columns = self.key_columns.iter().map(renamed).collect();
        let kept = self.columns.into_iter().filter(|column| !column.dropped);
        let fields = kept.map(|column| column.field).collect();
        (Schema { fields, key_columns }, self.next_field)
    }
}
