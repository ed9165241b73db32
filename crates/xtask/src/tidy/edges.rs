//! Which crate may know which: arrows point down only, and a heavy dependency has an owner.
//!
//! A new edge is a one-line change here, for a reviewer to see. It must not allow an edge because it
//! already exists. Invariant: `EDGES` is in layer order, so each crate's targets stand above it and the
//! graph has no cycle.

use super::Violation;
use crate::tree::Tree;

const PREFIX: &str = "alluvium-";

/// Each crate and the crates of ours that it may name, lower layers first.
const EDGES: &[(&str, &[&str])] = &[
    ("xtask", &[]),
    ("stdx", &[]),
    ("types", &["stdx"]),
    ("wal", &["stdx"]),
    ("checker", &["stdx"]),
    ("world", &["stdx"]),
    ("state-machine", &["stdx", "types"]),
    ("metastore", &["stdx", "types", "state-machine"]),
    ("storage", &["stdx"]),
    ("raft", &["stdx", "types", "state-machine", "wal"]),
    ("codegen", &[]),
    ("proto", &[]),
    ("messages", &["types", "proto"]),
    ("listen", &["stdx"]),
    ("peer", &["stdx", "types", "state-machine", "wal", "raft", "proto", "listen"]),
    ("rows", &["stdx", "types"]),
    ("parquet", &["stdx"]),
    ("materialize", &["stdx", "types", "state-machine", "storage", "rows", "parquet"]),
    ("query", &["stdx", "types", "state-machine", "storage", "rows", "parquet", "materialize"]),
    ("ingest", &["stdx", "types", "rows"]),
    ("client", &["stdx", "types", "rows", "proto", "messages"]),
    (
        "engine",
        &[
            "stdx",
            "types",
            "state-machine",
            "metastore",
            "storage",
            "rows",
            "materialize",
            "query",
            "raft",
            "peer",
            "wal",
        ],
    ),
    ("server", &["types", "rows", "engine", "proto", "messages", "listen"]),
    ("cli", &["stdx", "types", "rows", "engine", "proto", "peer", "server", "ingest", "client"]),
    (
        "integration",
        &[
            "stdx",
            "types",
            "state-machine",
            "metastore",
            "storage",
            "raft",
            "ingest",
            "engine",
            "proto",
            "server",
        ],
    ),
    ("fault", &["stdx", "types", "wal", "state-machine", "engine"]),
    ("bench-kit", &["stdx"]),
    ("bench", &["stdx", "bench-kit", "types", "wal", "ingest", "engine"]),
    ("bench-cluster", &["stdx", "bench-kit", "proto"]),
    ("jepsen", &["stdx", "proto", "checker", "world"]),
];

/// Heavy dependencies and the only crates that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("rocksdb", &["metastore"]),
    ("datafusion", &["query"]),
    (
        "tonic",
        &[
            "codegen",
            "proto",
            "listen",
            "peer",
            "client",
            "server",
            "cli",
            "integration",
            "jepsen",
            "bench-cluster",
        ],
    ),
    ("openraft", &["raft", "peer"]),
    ("fuser", &["world"]),
    ("parquet", &["parquet", "ingest", "cli"]),
    // The state machine derives the encoding of its records; only `types::codec` frames and decodes.
    ("bincode", &["types", "state-machine"]),
];

/// Crates that never see a column: they move bytes, or decide.
const WITHOUT_ARROW: [&str; 6] = ["stdx", "types", "state-machine", "wal", "raft", "metastore"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in tree.members() {
        let package = member.package().unwrap_or_default();
        let from = package.strip_prefix(PREFIX).unwrap_or(package);
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == from) else {
            let message = format!("crate `{package}` has no row in tidy/edges.rs: give it a layer");
            found.push(Violation::new(&member.path, 0, message));
            continue;
        };
        for dependency in member.dependencies() {
            let refusal = match dependency.name.strip_prefix(PREFIX) {
                Some(to) if allowed.contains(&to) => None,
                Some(to) => Some(format!("edge {from} -> {to} is not in tidy/edges.rs")),
                None => foreign(from, dependency.name),
            };
            found.extend(refusal.map(|why| Violation::new(&member.path, dependency.line, why)));
        }
    }
    found
}

/// Returns why crate `from` may not name the foreign crate `to`.
fn foreign(from: &str, to: &str) -> Option<String> {
    let is_arrow = to == "arrow" || to.starts_with("arrow-");
    if is_arrow && WITHOUT_ARROW.contains(&from) {
        return Some(format!("`{from}` must stay free of Arrow, and names `{to}`"));
    }
    let is_family = |owned: &str| {
        to == owned || to.strip_prefix(owned).is_some_and(|rest| rest.starts_with('-'))
    };
    let (owned, owners) = OWNERS.iter().find(|(owned, _)| is_family(owned))?;
    let message = format!("`{to}`: `{owned}` belongs to {}, not to `{from}`", owners.join(", "));
    (!owners.contains(&from)).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::{EDGES, check};
    use crate::tidy::assert_caught;

    fn caught(package: &str, dependency: &str, expected: &[&str]) {
        let manifest = format!(
            "[package]\nname = \"{package}\"\n[dev-dependencies]\n{dependency}.workspace = true\n"
        );
        assert_caught(check, &[("crates/a/Cargo.toml", &manifest)], expected);
    }

    #[test]
    fn an_edge_that_points_up_is_caught() {
        caught("alluvium-types", "alluvium-engine", &["edge types -> engine is not in"]);
        caught("alluvium-types", "alluvium-stdx", &[]);
    }

    #[test]
    fn a_crate_without_a_layer_is_caught() {
        caught("alluvium-common", "bytes", &["has no row in tidy/edges.rs"]);
    }

    #[test]
    fn a_heavy_dependency_outside_its_owner_is_caught() {
        caught("alluvium-engine", "rocksdb", &["`rocksdb` belongs to metastore"]);
        caught("alluvium-engine", "datafusion", &["belongs to query"]);
        caught("alluvium-query", "datafusion-common", &[]);
        caught(
            "alluvium-engine",
            "tonic-health",
            &["`tonic` belongs to codegen, proto, listen, peer, client, server, cli"],
        );
        caught("alluvium-wal", "openraft", &["belongs to raft, peer"]);
        caught("alluvium-raft", "openraft", &[]);
    }

    #[test]
    fn arrow_in_a_byte_moving_crate_is_caught() {
        for package in ["stdx", "types", "state-machine", "wal", "raft", "metastore"] {
            let message = format!("`{package}` must stay free of Arrow");
            caught(&format!("alluvium-{package}"), "arrow-array", &[&message]);
        }
        caught("alluvium-query", "arrow", &[]);
    }

    #[test]
    fn every_edge_points_down() {
        for (position, (from, targets)) in EDGES.iter().enumerate() {
            for to in *targets {
                let below = EDGES.iter().take(position).any(|(name, _)| name == to);
                assert!(below, "{from} -> {to}: the target must stand above its user in the list");
            }
        }
    }
}
