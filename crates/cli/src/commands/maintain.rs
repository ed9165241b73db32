//! `alluvium seal`, `compact` and `expire`.

use serde_json::json;

use super::caller;
use crate::args::{Expire, Named};
use crate::backend::Backend;
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::print_record;

pub(super) async fn seal(
    arguments: &Named,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let caller = caller(settings, arguments.condition);
    let report = backend.seal(&caller, &arguments.name).await?;
    let record = vec![
        ("index", json!(report.index)),
        ("files", json!(report.files)),
        ("rows", json!(report.rows)),
    ];
    print_record(settings.output, &record)
}

pub(super) async fn compact(
    arguments: &Named,
    backend: &Backend,
    settings: &Settings,
) -> Result<(), Failure> {
    let caller = caller(settings, arguments.condition);
    let report = backend.compact(&caller, &arguments.name).await?;
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
    let caller = caller(settings, arguments.condition);
    let written = backend.expire(&caller, &arguments.name, arguments.before).await?;
    let record = vec![("index", json!(written.index)), ("versions_pruned", json!(written.count))];
    print_record(settings.output, &record)
}
