//! Three servers on one machine, made by one command; one is killed, and nobody's rows are gone.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{CITIES, REGISTER, Ran, cities, parse, program};

/// A cluster that `alluvium dev` runs.
pub(crate) struct Dev {
    root: tempfile::TempDir,
    child: Child,
    servers: Vec<Value>,
}

impl Dev {
    fn start() -> Self {
        Self::start_with(|_as_it_is| {})
    }

    /// Starts one whose command line and environment are changed so.
    pub(crate) fn start_with(tune: impl FnOnce(&mut Command)) -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let mut command = program(root.path());
        command.args(["dev", "--data-dir"]).arg(root.path().join("lake"));
        tune(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let lines = out.lines().take(3).map(|line| parse(&line.expect("it prints lines")));
        Self { servers: lines.collect(), root, child }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn run_on(&self, server: usize, args: &[&str]) -> Ran {
        let url = self.servers[server]["listening"].as_str().expect("an address");
        let mut command = program(self.root());
        command.args(args).args(["--connect", url, "-o", "json"]);
        Ran::of(command.output().expect("it starts"))
    }

    pub(crate) fn pid(&self, server: usize) -> String {
        self.servers[server]["pid"].to_string()
    }

    pub(crate) fn leader(&self, server: usize) -> usize {
        let status = self.run_on(server, &["status"]).json();
        let leader = status["leader"].as_u64().expect("one leads");
        usize::try_from(leader).expect("small") - 1
    }

    /// Asks it to end, and returns how it did.
    pub(crate) fn end(mut self) -> (Option<i32>, tempfile::TempDir) {
        let ended = self.stop();
        let empty = tempfile::tempdir().expect("temporary directory");
        (ended.code(), std::mem::replace(&mut self.root, empty))
    }

    fn stop(&mut self) -> std::process::ExitStatus {
        if let Some(ended) = self.child.try_wait().expect("it is ours") {
            return ended;
        }
        send("-TERM", &self.child.id().to_string());
        self.child.wait().expect("it ends")
    }
}

impl Drop for Dev {
    /// A test that failed leaves no server behind.
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn send(signal: &str, pid: &str) {
    let sent = Command::new("kill").args([signal, pid]).status().expect("kill runs");
    assert!(sent.success(), "{signal} to {pid}");
}

#[test]
fn a_cluster_of_three_starts_in_one_command_and_survives_a_killed_leader() {
    let dev = Dev::start();
    let members = dev.run_on(1, &["cluster", "status"]).json();
    let votes: Vec<_> = members.as_array().expect("a list").iter().collect();
    assert_eq!(votes.len(), 3, "{members}");
    dev.run_on(2, &REGISTER).json();
    let file = dev.root().join("cities.csv");
    std::fs::File::create(&file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, CITIES.as_bytes()))
        .expect("writes");
    let file = file.display().to_string();
    dev.run_on(1, &["append", "cities", &file]).json();
    let all = ["sql", "SELECT id, name, area FROM cities ORDER BY id"];
    for server in 0..3 {
        assert_eq!(dev.run_on(server, &all).json()["rows"], cities(), "server {server}");
    }
    let leader = dev.leader(1);
    send("-KILL", &dev.pid(leader));
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    // The program tries again for as long as an election takes.
    dev.run_on(one, &["tombstone", "cities", "--key", "2"]).json();
    for server in [one, other] {
        let rows = dev.run_on(server, &["sql", "SELECT id FROM cities ORDER BY id"]).json();
        assert_eq!(rows["rows"], json!([{"id": 1}, {"id": 3}]), "server {server}");
    }
    assert_ne!(dev.leader(one), leader);
    let handed = dev.run_on(other, &["cluster", "transfer-leader", &(other + 1).to_string()]);
    handed.json();
    assert_eq!(dev.leader(one), other);
    let removed = (leader + 1).to_string();
    let unasked = dev.run_on(one, &["cluster", "remove", &removed]).error(2);
    assert_eq!(unasked["hint"], "say --yes to remove it");
    let members = dev.run_on(one, &["cluster", "remove", &removed, "--yes"]).json();
    assert_eq!(members.as_array().map(Vec::len), Some(2), "{members}");
    let (code, root) = dev.end();
    assert_eq!(code, Some(0));
    // Each directory that ended in good order is whole, and both have the same state.
    let verified = |server: usize| {
        let directory = root.path().join("lake").join(format!("node-{}", server + 1));
        let mut command = program(root.path());
        command.args(["verify", "-o", "json", "--data-dir"]).arg(directory);
        Ran::of(command.output().expect("it starts")).json()
    };
    assert_eq!(verified(one)["damage"], json!([]));
    assert_eq!(verified(other)["damage"], json!([]));
}

#[test]
fn certificates_are_made_for_a_cluster_and_servers_take_them() {
    let root = tempfile::tempdir().expect("temporary directory");
    let run = |args: &[&str]| {
        let mut command = program(root.path());
        command.args(args).args(["-o", "json"]);
        Ran::of(command.output().expect("it starts"))
    };
    let issued = run(&["certs", "certs", "--nodes", "1,2"]).json();
    let file =
        |node: usize, what: &str| issued[node - 1][what].as_str().expect("a path").to_owned();
    let cluster = |node: usize, what: &str, join: &[&str]| {
        let (ca, certificate, key) =
            (file(node, "authority"), file(node, "certificate"), file(node, "key"));
        let directory = format!("node-{node}");
        let mut args = vec!["cluster", what, "--data-dir", &directory, "--peer", "127.0.0.1:0"];
        args.extend(["--peer-ca", &ca, "--peer-cert", &certificate, "--peer-key", &key]);
        args.extend(join);
        run(&args)
    };
    let made = cluster(1, "init", &[]).json();
    assert_eq!(made["cluster_id"], issued[0]["cluster"], "the certificate says of which cluster");
    assert_eq!(made["node_id"], 1);
    // A directory that was lost is not founded again by the command that serves it.
    let lost = run(&[
        "serve",
        "--data-dir",
        "lost",
        "--listen",
        "127.0.0.1:0",
        "--peer",
        "127.0.0.1:0",
        "--peer-ca",
        &file(1, "authority"),
        "--peer-cert",
        &file(1, "certificate"),
        "--peer-key",
        &file(1, "key"),
    ])
    .error(1);
    let message = lost["message"].as_str().expect("text");
    assert!(message.contains("it must join the cluster of its certificate"), "{message}");
    let nobody = cluster(2, "join", &["--join", "127.0.0.1:1"]).error(1);
    let message = nobody["message"].as_str().expect("text");
    assert!(message.contains("cannot join the cluster at 127.0.0.1:1"), "{message}");
    assert!(!root.path().join("node-2").join("node.alluvium").exists());
    let again = run(&["certs", "certs", "--nodes", "1"]).error(1);
    assert!(again["message"].as_str().is_some_and(|text| text.contains("cannot write")), "{again}");
    let nonsense = run(&["certs", "certs", "--cluster", "mine"]).error(2);
    assert!(nonsense["message"].as_str().is_some_and(|text| text.contains("\"mine\"")));
}
