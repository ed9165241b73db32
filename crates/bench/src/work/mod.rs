//! What a measuring process does: the work of one contender, then one line of answer.
//!
//! It must not compare. Invariant: preparation is not within any timed span.

mod log_alluvium;
mod log_bare;
mod node;
mod node_append;
mod node_compact;
mod node_restart;
mod node_sql;

use anyhow::{Result, bail};

use crate::sample::{Params, Sample};
use alluvium_bench_kit::ui;

/// Does the work and prints the answer.
pub(crate) fn answer(params: &Params) -> Result<()> {
    ui::say(&measure(params)?.line()?);
    Ok(())
}

fn measure(params: &Params) -> Result<Sample> {
    match params.work.as_str() {
        "wal-alluvium" => log_alluvium::append(params),
        "wal-bare-loop" => log_bare::append_alone(params),
        "wal-bare-group" => log_bare::append_together(params),
        "reopen-fill-alluvium" => log_alluvium::fill(params),
        "reopen-open-alluvium" => log_alluvium::open(params),
        "reopen-fill-raw" => log_bare::fill(params),
        "reopen-open-raw" => log_bare::open(params),
        "append-alluvium" => node_append::append(params),
        "append-ipc" => node_append::append_ipc(params),
        "sql-fill" => node_sql::fill(params),
        "sql-query" => node_sql::query(params),
        "compact-fill" => node_compact::fill(params),
        "compact-alluvium" => node_compact::compact(params),
        "restart-fill" => node_restart::fill(params),
        "restart-node" => node_restart::open_node(params),
        "restart-log" => node_restart::open_log(params),
        unknown => bail!("unknown work `{unknown}`"),
    }
}
