//! `alluvium seal`, `compact` and `expire`.

use serde_json::json;

use super::caller;
use crate::args::{Condition, Expire};
use crate::backend::Backend;
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::print_record;

pub(super) async fn seal(
    name: &str,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let report = backend.seal(&caller(settings, Condition::default()), name).await?;
    let record = vec![
        ("index", json!(report.index)),
        ("files", json!(report.files)),
        ("rows", json!(report.rows)),
    ];
    print_record(settings.output, &record)
}

pub(super) async fn compact(
    name: &str,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let report = backend.compact(&caller(settings, Condition::default()), name).await?;
    let record = vec![
        ("index", json!(report.index)),
        ("files_in", json!(report.files_in)),
        ("files_out", json!(report.files_out)),
        ("rows_in", json!(report.rows_in)),
        ("rows_hidden", json!(report.rows_hidden)),
        ("rows_out", json!(report.rows_out)),
        ("bytes_in", json!(report.bytes_in)),
        ("bytes_out", json!(report.bytes_out)),
    ];
    print_record(settings.output, &record)
}

pub(super) async fn expire(
    arguments: &Expire,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let caller = caller(settings, Condition::default());
    let written = backend.expire(&caller, &arguments.name, arguments.before).await?;
    let record = vec![("index", json!(written.index)), ("versions_pruned", json!(written.count))];
    print_record(settings.output, &record)
}
