//! The program, a place for it to work on, and what it printed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};

/// Who runs the commands, as the log has it.
pub(crate) const USER: &str = "tester";

/// A keyed dataset that most tests work on.
pub(crate) const REGISTER: [&str; 11] = [
    "dataset",
    "register",
    "cities",
    "--column",
    "id:int64",
    "--column",
    "name:utf8",
    "--column",
    "area:float64",
    "--key",
    "id",
];

/// Its rows: a comma within a value, a character of two bytes, a NULL of each nullable column.
pub(crate) const CITIES: &str = "id,name,area\n1,Bonn,141.1\n2,\"Köln, am Rhein\",\n3,,0.5\n";

/// The rows of [`CITIES`] as JSON.
pub(crate) fn cities() -> Value {
    json!([
        {"id": 1, "name": "Bonn", "area": 141.1},
        {"id": 2, "name": "Köln, am Rhein", "area": null},
        {"id": 3, "name": null, "area": 0.5},
    ])
}

/// Returns the program, which sees no setting of whoever runs the tests.
pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    command.env_clear().env("HOME", home).env("USER", USER);
    command.current_dir(home).stdin(Stdio::null());
    command
}

/// A finished run of the program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Returns what it printed, after a success.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// Returns the one JSON document that it printed, after a success.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        parse(&self.ok())
    }

    /// Returns the error that it printed as JSON, after a failure with this exit code.
    #[track_caller]
    pub(crate) fn error(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        let last = self.err.lines().last().expect("a failure says why");
        let error = parse(last)["error"].clone();
        let fields: Vec<&String> = error.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["ambiguous", "hint", "kind", "message"], "every field, always");
        error
    }
}

#[track_caller]
pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

/// A data directory and, if there is one, the server on it. Everything is below one temporary directory.
pub(crate) struct Lake {
    root: tempfile::TempDir,
    pub(crate) server: Option<Server>,
}

impl Lake {
    /// Returns a place where each command opens the directory itself. The directory does not exist yet.
    pub(crate) fn embedded() -> Self {
        Self { root: tempfile::tempdir().expect("temporary directory"), server: None }
    }

    /// Returns a place where commands go through a server.
    pub(crate) fn served() -> Self {
        let mut lake = Self::embedded();
        lake.start_server();
        lake
    }

    /// Returns one of each.
    pub(crate) fn both() -> [Self; 2] {
        [Self::embedded(), Self::served()]
    }

    /// Registers [`REGISTER`]'s dataset and appends [`CITIES`]; returns the index of the append.
    pub(crate) fn with_cities(self) -> (Self, u64) {
        self.json(&REGISTER);
        let file = self.file("cities.csv", CITIES);
        let index = index_of(&self.json(&["append", "cities", &file]));
        (self, index)
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn dir(&self) -> String {
        self.root().join("node").display().to_string()
    }

    pub(crate) fn start_server(&mut self) {
        self.start_server_under(&[]);
    }

    /// Starts a server with variables in its environment that no other process has.
    pub(crate) fn start_server_under(&mut self, variables: &[(&str, &Path)]) {
        assert!(self.server.is_none(), "one server at a time has the directory");
        self.server = Some(Server::start(self.root(), &self.dir(), variables));
    }

    pub(crate) fn server(&mut self) -> Server {
        self.server.take().expect("a server runs")
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.root().join(name);
        let mut file = File::create(&path).expect("creates");
        file.write_all(content.as_ref()).expect("writes");
        path.display().to_string()
    }

    /// Returns a command with its place.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program(self.root());
        command.args(args);
        match &self.server {
            Some(server) => command.args(["--connect", &server.url]),
            None => command.args(["--data-dir", &self.dir()]),
        };
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("it starts"))
    }

    /// Runs a command with bytes on its standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = Piped::start(self.command(args));
        // A command that fails early need not read all of it.
        drop(child.input.as_mut().expect("piped").write_all(input));
        child.finish()
    }

    /// Runs a command that must succeed, and returns its one JSON document.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.run(&with_json(args)).json()
    }

    /// Runs a command that must fail with this exit code and no result, and returns its error.
    #[track_caller]
    pub(crate) fn error(&self, code: i32, args: &[&str]) -> Value {
        let ran = self.run(&with_json(args));
        assert_eq!(ran.out, "", "a failed command has no result: {}", ran.err);
        ran.error(code)
    }

    /// Returns the rows of a query.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Value {
        self.json(&["sql", sql])["rows"].clone()
    }

    /// Returns all cities in order.
    #[track_caller]
    pub(crate) fn cities(&self) -> Value {
        self.rows("SELECT id, name, area FROM cities ORDER BY id")
    }

    /// Returns the ids of all cities in order.
    #[track_caller]
    pub(crate) fn ids(&self) -> Vec<i64> {
        let rows = self.rows("SELECT id FROM cities ORDER BY id");
        let rows = rows.as_array().expect("rows").iter();
        rows.map(|row| row["id"].as_i64().expect("a number")).collect()
    }
}

fn with_json<'a>(args: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(["-o", "json"]).collect()
}

/// Returns the index of an answer.
#[track_caller]
pub(crate) fn index_of(answer: &Value) -> u64 {
    answer["index"].as_u64().unwrap_or_else(|| panic!("no index in {answer}"))
}

/// A running command whose standard input is open.
pub(crate) struct Piped {
    child: Option<Child>,
    pub(crate) input: Option<ChildStdin>,
}

impl Piped {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let input = child.stdin.take();
        Self { child: Some(child), input }
    }

    /// Goes away as the reader of what it prints.
    pub(crate) fn close_output(&mut self) {
        drop(self.child.as_mut().and_then(|child| child.stdout.take()));
    }

    /// Closes its input and waits for its end.
    pub(crate) fn finish(mut self) -> Ran {
        drop(self.input.take());
        let child = self.child.take().expect("it was started");
        Ran::of(child.wait_with_output().expect("it ends"))
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }
}

/// A server in a process of its own; it is killed when the value is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// Open as long as the server runs, so that it can print.
    output: BufReader<ChildStdout>,
    log: std::path::PathBuf,
}

impl Server {
    fn start(home: &Path, dir: &str, variables: &[(&str, &Path)]) -> Self {
        let log = home.join("server.log");
        let mut command = program(home);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", dir, "-o", "json"]);
        command.envs(variables.iter().copied());
        command.stdout(Stdio::piped()).stderr(File::create(&log).expect("creates"));
        let mut child = command.spawn().expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it prints where it listens");
        let announced = match line.is_empty() {
            true => {
                end(&mut child);
                panic!("no server: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            false => parse(&line),
        };
        assert_eq!(announced["pid"], json!(child.id()));
        let url = announced["listening"].as_str().expect("a URL").to_owned();
        Self { child, url, output, log }
    }

    /// Asks it to stop, and returns its exit code and its log.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let told = Command::new("sh").args(["-c", "kill -TERM $0", &pid]).status();
        assert!(told.expect("sh starts").success(), "the server is there to be told");
        let status = self.child.wait().expect("it ends");
        (status.code(), std::fs::read_to_string(&self.log).expect("it has a log"))
    }

    /// Waits until it ended by itself; returns its exit code, what it printed since its address, and its log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut out).expect("text until its end");
        let status = self.child.wait().expect("it ends");
        (status.code(), out, std::fs::read_to_string(&self.log).expect("it has a log"))
    }

    /// Kills it where it stands.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), None, "a signal ended it, not itself");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a child that may have ended already.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}
