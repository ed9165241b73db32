//! A server that ten thousand connections are opened to, and kept open without a word.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::{REGISTER, Ran, parse, program};

/// What a client of HTTP/2 begins with: settings, none of which it changes.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Connections, of which some never say a word.
const CROWD: usize = 10_000;
const SILENT: usize = 1_000;
/// What the server may need for all of them.
const MEMORY_MAX_KIB: u64 = 400 * 1024;

struct Server {
    child: Child,
    said: Value,
}

impl Server {
    fn start(home: &Path, dir: &str, join: &[&str]) -> Self {
        let mut command = program(home);
        command.args(["serve", "--listen", "127.0.0.1:0", "--peer", "127.0.0.1:0"]);
        command.args(["--data-dir", dir]).args(join);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("it prints where it listens");
        Self { said: parse(&line), child }
    }

    fn run(&self, home: &Path, args: &[&str]) -> Value {
        let url = self.said["listening"].as_str().expect("a URL");
        let mut command = program(home);
        command.args(args).args(["--connect", url, "-o", "json"]);
        Ran::of(command.output().expect("it starts")).json()
    }

    /// Returns the memory that it has now, and the files that it has open.
    fn weight(&self) -> (u64, usize) {
        let of = |what: &str| format!("/proc/{}/{what}", self.child.id());
        let status = std::fs::read_to_string(of("status")).expect("it runs");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let memory = memory.trim().trim_end_matches(" kB").parse().expect("a number");
        (memory, std::fs::read_dir(of("fd")).expect("it runs").count())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "connections that are no client's")]
fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).expect("it is let in")
}

/// Says whether the other side has hung up.
fn is_over(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("sets");
    let mut rest = [0; 256];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_keep_nobody_out() {
    let limit = alluvium_stdx::allowance::raise_open_files().expect("raises");
    if limit < 2 * CROWD as u64 {
        // No other outcome is possible, and a smaller crowd would prove less than the name says.
        panic!("this needs {} open files, and {limit} are allowed: ulimit -n", 2 * CROWD);
    }
    let root = tempfile::tempdir().expect("temporary directory");
    let home = root.path();
    let server = Server::start(home, "one", &[]);
    server.run(home, &REGISTER);
    let (before_kib, _) = server.weight();
    let address = server.said["listening"].as_str().expect("a URL").replace("http://", "");
    let crowd: Vec<TcpStream> = (0..CROWD)
        .map(|number| {
            let mut stream = connect(&address);
            if SILENT <= number {
                stream.write_all(PREFACE).expect("it is listened to");
            }
            stream
        })
        .collect();
    // Each command is a newcomer of its own.
    for _ in 0..5 {
        assert_eq!(server.run(home, &["status"])["datasets"], 1);
    }
    let (after_kib, files) = server.weight();
    let grown = after_kib.saturating_sub(before_kib);
    assert!(grown < MEMORY_MAX_KIB, "{CROWD} connections cost {grown} KiB");
    let open = crowd.iter().filter(|stream| !is_over(stream)).count();
    assert!((1_000..=4_096).contains(&open), "{open} connections are open");
    assert!(files < 4_096 + 512, "{files} files are open");
    // A peer is no client: its port has places of its own.
    let peer = server.said["peer"].as_str().expect("an address");
    let second = Server::start(home, "two", &["--join", peer]);
    let rows = home.join("rows.csv");
    std::fs::File::create(&rows)
        .and_then(|mut file| file.write_all(b"id,name,area\n1,Bonn,1\n"))
        .expect("writes");
    let written = second.run(home, &["append", "cities", &rows.display().to_string()]);
    assert_eq!(written["rows"], 1, "{written}");
    let found = server.run(home, &["sql", "SELECT count(*) AS n FROM cities"]);
    assert_eq!(found["rows"], json!([{"n": 1}]));
}
