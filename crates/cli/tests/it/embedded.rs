//! Two programs with a replica inside, and one server: each reads what any of them wrote, from its own copy.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Ran, index_of, parse, program};

/// Returns where the example lies: beside the program, as one build makes both.
fn example() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_alluvium"));
    let path = program.with_file_name("examples").join("embedded_replica");
    assert!(path.exists(), "cargo build --workspace --examples makes {}", path.display());
    path
}

fn free_address() -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "only the number is wanted")]
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    taken.local_addr().expect("has one")
}

/// A program that embeds a node.
struct Embedding {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    arguments: Vec<String>,
}

impl Embedding {
    fn start(arguments: &[String]) -> Self {
        let mut command = Command::new(example());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut started = Self { child, input, output, arguments: arguments.to_vec() };
        let ready = started.answer();
        assert!(ready.starts_with("ready node="), "{ready}");
        started
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it listens");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("it listens");
    }

    fn answer(&mut self) -> String {
        self.output.next().expect("it answers").expect("text")
    }

    /// Returns the numbers of an answer, in the order of their names.
    fn ask<const COUNT: usize>(&mut self, line: &str, names: [&str; COUNT]) -> [i64; COUNT] {
        self.say(line);
        numbers(&self.answer(), names)
    }

    /// Kills it where it stands, and starts it again.
    fn kill_and_restart(mut self, between: impl FnOnce()) -> Self {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("it ends");
        between();
        Self::start(&self.arguments)
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[track_caller]
fn numbers<const COUNT: usize>(answer: &str, names: [&str; COUNT]) -> [i64; COUNT] {
    names.map(|name| {
        let found =
            answer.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let found = found.unwrap_or_else(|| panic!("no {name} in {answer:?}"));
        found.parse().unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    })
}

/// A server that is a member of the same cluster.
struct Server {
    child: Child,
    said: Value,
    home: PathBuf,
}

impl Server {
    fn start(home: &Path) -> Self {
        let mut command = program(home);
        command.args(["serve", "--listen", "127.0.0.1:0", "--peer", "127.0.0.1:0"]);
        command.args(["--data-dir", "server"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("it prints where it listens");
        Self { said: parse(&line), child, home: home.to_owned() }
    }

    fn json(&self, args: &[&str]) -> Value {
        let url = self.said["listening"].as_str().expect("a URL");
        let mut command = program(&self.home);
        command.args(args).args(["--connect", url, "-o", "json"]);
        Ran::of(command.output().expect("it starts")).json()
    }

    fn append(&self, file: &str) -> u64 {
        index_of(&self.json(&["append", "readings", file]))
    }

    fn totals(&self) -> Value {
        let text = "SELECT count(*) AS rows, sum(value) AS sum FROM readings";
        self.json(&["sql", text])["rows"][0].clone()
    }

    fn peer(&self) -> &str {
        self.said["peer"].as_str().expect("an address")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Writes a file of rows whose values are 1.
fn file(home: &Path, name: &str, rows: usize) -> String {
    let path = home.join(name);
    let mut text = "sensor,value\n".to_owned();
    text.extend((0..rows).map(|row| format!("sensor-{row},1\n")));
    let written = std::fs::File::create(&path);
    written.and_then(|mut file| file.write_all(text.as_bytes())).expect("writes");
    path.display().to_string()
}

#[test]
fn two_programs_with_a_replica_inside_and_a_server_read_what_any_of_them_wrote() {
    let root = tempfile::tempdir().expect("temporary directory");
    let server = Server::start(root.path());
    let start = |name: &str, role: &str| {
        let directory = root.path().join(name).display().to_string();
        let arguments =
            [directory, free_address().to_string(), server.peer().to_owned(), role.to_owned()];
        Embedding::start(&arguments)
    };
    let (mut voter, mut learner) = (start("voter", "voter"), start("learner", "learner"));
    // A row through each; each one's own copy has it as soon as it has the index.
    let few = file(root.path(), "few.csv", 1);
    let [one] = voter.ask("append a 10", ["index"]);
    let [two] = learner.ask("append b 100", ["index"]);
    let three = server.append(&few);
    for (index, rows, sum) in
        [(one, 1, 10), (two, 2, 110), (i64::try_from(three).expect("small"), 3, 111)]
    {
        for program in [&mut voter, &mut learner] {
            let [at, found_rows, found_sum] =
                program.ask(&format!("sum {index}"), ["index", "rows", "sum"]);
            assert!(index <= at, "{at} is before {index}");
            assert!(rows <= found_rows && sum <= found_sum, "{index}: {found_rows}, {found_sum}");
        }
    }
    assert_eq!(server.totals(), json!({"rows": 3, "sum": 111}));
    // Its copy answers all the while it takes in many rows.
    learner.say("read 5");
    let many = file(root.path(), "many.csv", 20_000);
    let mut last = 0;
    for _ in 0..5 {
        last = server.append(&many);
    }
    let read = learner.answer();
    let [reads, slowest_ms, from, to] = numbers(&read, ["reads", "slowest_ms", "first", "last"]);
    assert!(reads > 10 && from < to, "reads stood still: {read}");
    assert!(slowest_ms < 5_000, "a read waited for what was applied: {read}");
    // One is killed, misses rows, and has them when it is back.
    let mut learner = learner.kill_and_restart(|| {
        let [index] = voter.ask("append c 1000", ["index"]);
        last = last.max(u64::try_from(index).expect("an index")).max(server.append(&many));
    });
    let all = [120_004, 111 + 1_000 + 120_000];
    for program in [&mut voter, &mut learner] {
        let [_, rows, sum] = program.ask(&format!("sum {last}"), ["index", "rows", "sum"]);
        assert_eq!([rows, sum], all);
    }
    // The one with a vote is killed as well: without it there is no majority, and reads of the copy go on.
    let mut voter = voter.kill_and_restart(|| {
        let [_, rows, sum] = learner.ask(&format!("sum {last}"), ["index", "rows", "sum"]);
        assert_eq!([rows, sum], all);
    });
    let [index] = voter.ask("append d 1", ["index"]);
    let [_, rows, _] = learner.ask(&format!("sum {index}"), ["index", "rows", "sum"]);
    assert_eq!(rows, 120_005);
    learner.say("status");
    assert!(learner.answer().contains("votes=false"));
    voter.say("status");
    assert!(voter.answer().contains("votes=true"));
    learner.end();
    voter.end();
}
