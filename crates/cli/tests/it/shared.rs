//! A bucket that all servers share, at a server of S3 that is not ours.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::cluster::{Dev, send};
use crate::support::{CITIES, cities, program};

/// moto's server, as `cargo xtask test` installs it.
struct Moto {
    child: Child,
    address: String,
}

impl Moto {
    #[expect(clippy::disallowed_methods, reason = "a thread of the test")]
    fn start() -> Self {
        let interpreter = std::env::var("ALLUVIUM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(&interpreter);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut err = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        let address = loop {
            let read = err.read_line(&mut said).expect("it says something");
            assert_ne!(
                read, 0,
                "{interpreter} has no moto; `cargo xtask test` installs it: {said}"
            );
            if let Some((_, address)) = said.rsplit_once("Running on http://") {
                break address.trim().to_owned();
            }
        };
        // It writes a line for each request: a full pipe would stop it.
        std::thread::spawn(move || err.lines().for_each(drop));
        Self { child, address }
    }

    /// Makes one request, and returns what was answered.
    #[expect(clippy::disallowed_methods, reason = "a client of the test")]
    fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let host = &self.address;
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.contains(" 200 "), "{answer}");
        answer
    }

    /// Returns the keys of the data files.
    fn data_files(&self) -> Vec<String> {
        let listed = self.ask("GET", "/lake?list-type=2");
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        let keys = keys.map(|(key, _)| key.to_owned());
        keys.filter(|key| key.ends_with(".parquet")).collect()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn reach(command: &mut Command, address: &str) {
    command.env("AWS_ENDPOINT_URL", format!("http://{address}")).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_REGION", "us-east-1").env("AWS_ACCESS_KEY_ID", "somebody");
    command.env("AWS_SECRET_ACCESS_KEY", "hush-hush");
}

fn has_data_file(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("lists").any(|entry| {
        let path = entry.expect("lists").path();
        match path.is_dir() {
            true => has_data_file(&path),
            false => path.extension().is_some_and(|extension| extension == "parquet"),
        }
    })
}

#[test]
fn three_servers_keep_their_files_in_one_bucket_of_s3_and_a_killed_leader_changes_nothing() {
    let moto = Moto::start();
    moto.ask("PUT", "/lake");
    let dev = Dev::start_with(|command| {
        command.args(["--bucket", "lake=s3://lake/data"]);
        reach(command, &moto.address);
    });
    let register = ["dataset", "register", "cities", "--column", "id:int64", "--key", "id"];
    let columns = ["--column", "name:utf8", "--column", "area:float64", "--files-in", "lake"];
    dev.run_on(2, &[&register[..], &columns].concat()).json();
    let file = dev.root().join("cities.csv");
    std::fs::File::create(&file)
        .and_then(|mut file| file.write_all(CITIES.as_bytes()))
        .expect("writes");
    let file = file.display().to_string();
    dev.run_on(1, &["append", "cities", &file]).json();
    dev.run_on(0, &["seal", "cities"]).json();
    assert_eq!(moto.data_files().len(), 1);
    dev.run_on(2, &["upsert", "cities", &file]).json();
    let leader = dev.leader(1);
    send("-KILL", &dev.pid(leader));
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let report = dev.run_on(one, &["compact", "cities"]).json();
    assert_eq!((&report["rows_in"], &report["rows_out"]), (&json!(6), &json!(3)), "{report}");
    let all = ["sql", "SELECT id, name, area FROM cities ORDER BY id"];
    for server in [one, other] {
        assert_eq!(dev.run_on(server, &all).json()["rows"], cities(), "server {server}");
        let verified = dev.run_on(server, &["verify"]).json();
        assert_eq!(verified["damage"], json!([]), "{verified}");
    }
    let (_, root) = dev.end();
    assert!(!has_data_file(&root.path().join("lake")), "files lie on a server's own disk");
    // A directory by itself finds them, too, when it is told where they are.
    let directory = root.path().join(format!("lake/node-{}", one + 1));
    let verify = |bucket: bool| {
        let mut command = program(root.path());
        command.args(["verify", "-o", "json", "--data-dir"]).arg(&directory);
        if bucket {
            command.env("ALLUVIUM_BUCKETS", "lake=s3://lake/data");
            reach(&mut command, &moto.address);
        }
        crate::support::Ran::of(command.output().expect("it starts"))
    };
    let verified = verify(true).json();
    assert_eq!((&verified["damage"], &verified["files"]), (&json!([]), &json!(3)), "{verified}");
    let refused = verify(false).error(1);
    let hint = refused["hint"].as_str().expect("a hint");
    assert!(hint.contains("--bucket"), "{refused}");
}

#[test]
fn a_bucket_that_is_written_wrongly_is_refused_and_no_key_is_shown() {
    let root = tempfile::tempdir().expect("temporary directory");
    for (bucket, endpoint, code, says) in [
        ("lake", "http", 2, "is not a bucket"),
        ("s3://me:hush-hush@lake", "http", 2, "is not a bucket"),
        ("lake=http://lake", "https", 2, "does not begin with s3://"),
        ("lake=s3://me:hush-hush@lake", "https", 2, "a credential is no part of an address"),
        ("lake=s3://lake", "http", 2, "AWS_ALLOW_HTTP"),
        ("local=s3://lake", "https", 1, "cannot be named"),
    ] {
        let mut command = program(root.path());
        reach(&mut command, "127.0.0.1:1");
        command.env_remove("AWS_ALLOW_HTTP");
        command.env("AWS_ENDPOINT_URL", format!("{endpoint}://127.0.0.1:1"));
        command.arg("status").args(["-o", "json", "--bucket", bucket]);
        let directory = root.path().join("node");
        std::fs::create_dir_all(&directory).expect("makes it");
        let ran = crate::support::Ran::of(
            command.arg("--data-dir").arg(&directory).output().expect("it starts"),
        );
        let message = ran.error(code)["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(says), "{bucket}: {message}");
        assert!(!ran.err.contains("hush"), "{}", ran.err);
    }
}
