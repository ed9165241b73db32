//! What probes and monitors ask by HTTP on the client port: `/livez`, `/readyz`, `/metrics`.
//!
//! It must not wait for consensus: a node that has lost the others still says so. Invariant: a node in quarantine is alive
//! and not ready.

use std::fmt::Write as _;

use alluvium_engine::{Node, Status};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes(node: Node) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(node)
}

async fn ready(State(node): State<Node>) -> (StatusCode, String) {
    let reasons = node.unready();
    match reasons.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))),
    }
}

async fn metrics(State(node): State<Node>) -> impl IntoResponse {
    match node.status().await {
        Ok(status) => {
            let text = written(&status, node.unready().is_empty());
            (StatusCode::OK, [(CONTENT_TYPE, METRICS_TYPE)], text)
        }
        Err(error) => {
            let text = format!("{}\n", crate::failures::chain(&error));
            (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], text)
        }
    }
}

fn written(status: &Status, is_ready: bool) -> String {
    let leads = status.leader == Some(status.node_id);
    let none = u64::MAX;
    let gauges: [(&str, &str, u64); 17] = [
        ("ready", "Whether the node answers as it should.", is_ready.into()),
        (
            "quarantined",
            "Whether its state differs from the others'.",
            status.quarantine.is_some().into(),
        ),
        ("leads", "Whether it leads.", leads.into()),
        ("has_leader", "Whether it knows who leads.", status.leader.is_some().into()),
        ("members", "Members of the cluster.", status.members.len() as u64),
        ("term", "The Raft term.", status.term),
        ("log_first_index", "The first index of the log.", status.log.0.0),
        ("log_last_index", "The last index of the log.", status.log.1.0),
        ("log_bytes", "Bytes of log segments.", status.log_bytes),
        ("committed_index", "The committed index.", status.committed.0),
        ("applied_index", "The applied index.", status.applied.0),
        (
            "durable_index",
            "The applied index that survives a power cut without replay.",
            status.durable.0,
        ),
        (
            "snapshot_index",
            "The index of the latest snapshot.",
            status.snapshot.map_or(none, |index| index.0),
        ),
        (
            "agreed_index",
            "The newest checkpoint at which replicas were equal.",
            status.agreed_at.map_or(none, |index| index.0),
        ),
        ("datasets", "Live datasets.", status.datasets),
        ("planned_files", "Files planned and not yet attested.", status.jobs),
        ("failing_jobs", "Jobs that fail and are tried again.", status.job_errors.len() as u64),
    ];
    let mut text = String::new();
    // What is not known yet has no value.
    for (name, help, value) in gauges.into_iter().filter(|(_, _, value)| *value != none) {
        let written = write!(
            text,
            "# HELP alluvium_{name} {help}\n# TYPE alluvium_{name} gauge\nalluvium_{name} {value}\n"
        );
        written.expect("a string takes what is written");
    }
    let counters = [
        ("scrubs_total", "Scrubs that ended.", status.scrubs),
        ("damage_found", "What the last scrub found damaged.", status.damage.len() as u64),
    ];
    for (name, help, value) in counters {
        let written = write!(text, "# HELP alluvium_{name} {help}\nalluvium_{name} {value}\n");
        written.expect("a string takes what is written");
    }
    text
}
