//! `alluvium cluster`: who belongs to the cluster, who votes, who leads.

use std::io::IsTerminal as _;
use std::path::Path;

use alluvium_engine::{Node, PeerConfig, Security, recover_directory};
use alluvium_proto::v1;
use alluvium_proto::v1::change_members_request::Change;
use alluvium_types::ErrorKind;
use serde_json::json;

use super::serve::size_log;
use crate::args::{Cluster, Founded, Peer};
use crate::backend::{Backend, Missing, node_config};
use crate::config::Settings;
use crate::failure::Failure;
use crate::output::{Format, Record, print_record, print_records};
use crate::terminal::typed;

const FIELDS: [&str; 6] = ["node", "address", "votes", "leads", "behind", "silent_ms"];

#[expect(clippy::wildcard_enum_match_arm, reason = "all others work on what runs")]
pub(super) async fn run(command: Cluster, settings: &Settings) -> Result<(), Failure> {
    match command {
        Cluster::Init(new) if new.peer.join.is_empty() => found(&new, settings).await,
        Cluster::Init(_) => Err(Failure::usage("a node that founds a cluster joins none")
            .with_hint("`alluvium cluster join` makes a member of another node's cluster")),
        Cluster::Join(new) if new.peer.join.is_empty() => {
            Err(Failure::usage("which cluster? no member was named")
                .with_hint("say --join HOST:PORT"))
        }
        Cluster::Join(new) => found(&new, settings).await,
        Cluster::Recover { to, yes } => recover(to.as_deref(), yes, settings).await,
        command => {
            let backend = Backend::open(settings, Missing::Refuse).await?;
            let done = at(command, &backend, settings.output).await;
            super::close(backend, done).await
        }
    }
}

async fn at(command: Cluster, backend: &Backend, format: Format) -> Result<(), Failure> {
    let ids = |nodes| v1::MemberIds { nodes };
    let change = match command {
        Cluster::AddLearner { address, node_id } => {
            Change::AddLearner(v1::NewMember { node: node_id, address })
        }
        Cluster::Promote { nodes } => Change::Promote(ids(nodes)),
        Cluster::Remove { nodes, yes } => {
            let what = nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            if !yes {
                confirm(&what)?;
            }
            Change::Remove(ids(nodes))
        }
        Cluster::TransferLeader { node } => Change::TransferLeader(node),
        Cluster::Reinstall => {
            backend.reinstall().await?;
            let asked = vec![("reinstall", json!("asked for"))];
            return print_record(format, &asked);
        }
        Cluster::Status | Cluster::Init(_) | Cluster::Join(_) | Cluster::Recover { .. } => {
            return print_members(format, &backend.members().await?);
        }
    };
    let changed = backend.change_members(change).await?;
    print_members(format, &changed.members)
}

fn confirm(nodes: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("a node that is removed never comes back under its id")
            .with_hint("say --yes to remove it"));
    }
    let effect = format!("This removes {nodes} for ever: a node never comes back under its id.");
    match typed(&effect, "the ids, with commas between", nodes)? {
        true => Ok(()),
        false => Err(Failure::usage("those are not the ids; nothing was removed")),
    }
}

fn print_members(format: Format, members: &[v1::Member]) -> Result<(), Failure> {
    let record = |member: &v1::Member| -> Record {
        vec![
            ("node", json!(member.node)),
            ("address", json!(member.address)),
            ("votes", json!(member.votes)),
            ("leads", json!(member.leads)),
            ("behind", json!(member.behind)),
            ("silent_ms", json!(member.silent_ms)),
        ]
    };
    print_records(format, &FIELDS, &members.iter().map(record).collect::<Vec<_>>())
}

/// Makes a directory a node of a cluster, and closes it.
async fn found(new: &Founded, settings: &Settings) -> Result<(), Failure> {
    let peer = &new.peer;
    let directory = settings.data_dir.as_deref().ok_or_else(|| {
        Failure::usage("a node needs a directory").with_hint("say --data-dir DIR")
    })?;
    let mut config = node_config(directory, settings)?;
    config.peer = peer_config(peer)?.map(|peer| PeerConfig { found: true, ..peer });
    config.node_id = peer.node_id;
    size_log(&mut config, &new.log)?;
    if config.peer.is_none() {
        return Err(Failure::usage("a member needs an address for its peers")
            .with_hint("say --peer ADDRESS"));
    }
    let node = Node::open(config).await?;
    let status = node.status().await?;
    let address = node.peer_address().map(str::to_owned);
    node.shutdown().await?;
    let record = vec![
        ("cluster_id", json!(status.cluster_id)),
        ("node_id", json!(status.node_id)),
        ("peer", json!(address)),
    ];
    print_record(settings.output, &record)
}

/// Makes a cluster of one of what a member has, or says what that is.
async fn recover(to: Option<&Path>, yes: bool, settings: &Settings) -> Result<(), Failure> {
    let directory = settings.data_dir.as_deref().ok_or_else(|| {
        Failure::usage("of which directory? none was named").with_hint("say --data-dir DIR")
    })?;
    if to.is_some() && !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "what the other members acknowledged and this one lacks is lost",
            )
            .with_hint("say --yes to make a cluster of what it has"));
        }
        let effect = "What the other members acknowledged and this one lacks is lost for ever.";
        if !typed(effect, "the word", "lost")? {
            return Err(Failure::usage("that is not the word; nothing was made"));
        }
    }
    let found = recover_directory(&node_config(directory, settings)?, to).await?;
    let record = vec![
        ("cluster_id", json!(found.cluster_id)),
        ("node_id", json!(found.node_id)),
        ("term", json!(found.term)),
        ("index", json!(found.index.0)),
        ("committed", json!(found.committed.0)),
        ("files", json!(found.files)),
        ("missing", json!(found.missing)),
        ("damage", json!(found.damage)),
    ];
    print_record(settings.output, &record)?;
    match found.damage.first() {
        None => Ok(()),
        Some(first) => {
            Err(Failure::of_kind(ErrorKind::Corrupt, format!("nothing was made: {first}"), None))
        }
    }
}

/// Returns how a node takes part in a cluster; nothing when it is alone.
pub(super) fn peer_config(peer: &Peer) -> Result<Option<PeerConfig>, Failure> {
    let Some(listen) = &peer.peer else { return Ok(None) };
    let listen = listen.parse().map_err(|_not_one| {
        Failure::usage(format!("{listen:?} is not an address to listen on"))
            .with_hint("an IP address and a port, such as 127.0.0.1:7172")
    })?;
    let security = match (&peer.peer_ca, &peer.peer_cert, &peer.peer_key) {
        (Some(ca), Some(certificate), Some(key)) => Security::read(ca, certificate, key)
            .map_err(|error| Failure::usage(alluvium_server::failures::chain(&error)))?,
        _ => Security::Open,
    };
    Ok(Some(PeerConfig {
        listen,
        advertise: peer.advertise.clone(),
        security,
        insecure: peer.peer_insecure,
        join: peer.join.clone(),
        found: false,
        learner: peer.learner,
    }))
}
