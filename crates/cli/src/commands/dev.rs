//! `alluvium dev`: a cluster of real servers on one machine, for trying things out.
//!
//! Each server is a process of its own, so that one can be killed to see what the others do. It must not be used for
//! rows that matter: all of them lie on one disk. Invariant: when this process ends in good order, so have the servers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alluvium_types::ErrorKind;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Dev;
use crate::backend::Backend;
use crate::client::Client;
use crate::config::Settings;
use crate::failure::Failure;

/// How often the servers are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long the servers may take until each has a vote.
const VOTES_MAX: Duration = Duration::from_secs(60);
/// How long servers may take to end.
const END_MAX: Duration = Duration::from_secs(20);

/// A server and what it said when it began.
struct Server {
    child: Child,
    said: Value,
}

pub(super) async fn run(arguments: &Dev, settings: &Settings) -> Result<(), Failure> {
    let directory = settings.data_dir.as_deref().ok_or_else(|| {
        Failure::usage("a cluster needs a directory").with_hint("say --data-dir DIR")
    })?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| io("catch signals", &e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| io("catch signals", &e))?;
    let mut servers: Vec<Server> = Vec::new();
    let mut members: Vec<String> = Vec::new();
    for number in 1..=arguments.nodes {
        match start(&directory.join(format!("node-{number}")), &members, settings) {
            Ok(server) => {
                members.extend(server.said["peer"].as_str().map(str::to_owned));
                servers.push(server);
            }
            Err(failure) => {
                stop(&mut servers).await;
                return Err(failure);
            }
        }
    }
    // Before that, the loss of one would stop the others.
    tokio::select! {
        _ = interrupt.recv() => return stopped(servers).await,
        _ = terminate.recv() => return stopped(servers).await,
        voting = all_vote(&servers) => if let Err(failure) = voting {
            stop(&mut servers).await;
            return Err(failure);
        },
    }
    announce(&servers)?;
    let ended = loop {
        tokio::select! {
            _ = interrupt.recv() => break None,
            _ = terminate.recv() => break None,
            () = tokio::time::sleep(LOOK) => {}
        }
        let is_over = |server: &mut Server| !matches!(server.child.try_wait(), Ok(None));
        // One that was killed is part of the play; without any, there is nothing to see.
        if servers.iter_mut().all(is_over) {
            break Some("every server has ended");
        }
    };
    stop(&mut servers).await;
    match ended {
        Some(reason) => Err(Failure::of_kind(ErrorKind::Unavailable, reason.to_owned(), None)),
        None => Ok(()),
    }
}

async fn stopped(mut servers: Vec<Server>) -> Result<(), Failure> {
    stop(&mut servers).await;
    Ok(())
}

/// Waits until every server has a vote.
async fn all_vote(servers: &[Server]) -> Result<(), Failure> {
    let Some(first) = servers.first() else { return Ok(()) };
    let url = first.said["listening"].as_str().unwrap_or_default();
    let backend = Backend::Remote(Client::new(url, None)?);
    let waiting = async {
        loop {
            // One that is busy taking the others in says so, and is asked again.
            let members = backend.members().await.unwrap_or_default();
            if members.iter().filter(|member| member.votes).count() == servers.len() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(VOTES_MAX, waiting).await;
    waited.map_err(|_elapsed| {
        let message = "not every server was given a vote in time".to_owned();
        Failure::of_kind(ErrorKind::Unavailable, message, None)
    })
}

fn start(directory: &Path, members: &[String], settings: &Settings) -> Result<Server, Failure> {
    let program = std::env::current_exe().map_err(|error| io("find this program", &error))?;
    // A port of before is kept, so that the members find each other again.
    let kept = directory.with_extension("peer");
    let peer = std::fs::read_to_string(&kept).unwrap_or_else(|_new| "127.0.0.1:0".to_owned());
    let mut command = Command::new(program);
    command.arg("serve").arg("--data-dir").arg(directory);
    command.args(["--listen", "127.0.0.1:0", "--peer", peer.trim()]);
    for member in members {
        command.args(["--join", member]);
    }
    for (name, url) in &settings.buckets {
        command.arg("--bucket").arg(format!("{name}={url}"));
    }
    command.arg("--actor").arg(&settings.actor);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| io("start a server", &error))?;
    let out = child.stdout.take().expect("it was piped");
    let mut line = String::new();
    let read = BufReader::new(out).read_line(&mut line);
    let said = read.ok().and_then(|_| serde_json::from_str::<Value>(&line).ok());
    let Some(said) = said else {
        drop(child.wait());
        let message = format!("the server of {} did not start", directory.display());
        return Err(Failure::of_kind(ErrorKind::Unavailable, message, None)
            .with_hint("what it said is above"));
    };
    if let Some(address) = said["peer"].as_str() {
        alluvium_stdx::durable::write(&kept, address.as_bytes())
            .map_err(|error| io("keep the peer address", &error))?;
    }
    Ok(Server { child, said })
}

/// Prints where the servers are, a line for each.
fn announce(servers: &[Server]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for server in servers {
        let said = &server.said;
        let line = json!({
            "node_id": said["node_id"],
            "listening": said["listening"],
            "peer": said["peer"],
            "pid": server.child.id(),
        });
        writeln!(out, "{line}").map_err(|error| io("print", &error))?;
    }
    out.flush().map_err(|error| io("print", &error))
}

/// Asks the servers to end, the newest first, and waits for each.
async fn stop(servers: &mut Vec<Server>) {
    while let Some(mut server) = servers.pop() {
        ask_to_end(&server.child);
        let waiting = async {
            while matches!(server.child.try_wait(), Ok(None)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(END_MAX, waiting).await.is_err() {
            tracing::warn!(pid = server.child.id(), "a server did not end in time and is killed");
            drop(server.child.kill());
        }
        drop(server.child.wait());
    }
}

/// Sends SIGTERM, as an operator would.
fn ask_to_end(child: &Child) {
    let pid = child.id().to_string();
    if let Err(error) = Command::new("kill").args(["-TERM", &pid]).status() {
        tracing::warn!(pid, %error, "a server could not be asked to end");
    }
}

fn io(what: &'static str, error: &std::io::Error) -> Failure {
    Failure::io(what, error)
}
