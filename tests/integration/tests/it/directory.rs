//! Directories that a node must not open, as a whole node sees them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use alluvium_engine::Error;
use alluvium_types::ErrorKind;

use crate::support::{Lake, batch, caller, expect, open};

/// Where the child process of a test finds the directory.
const INNER: &str = "ALLUVIUM_INTEGRATION_INNER";

/// Starts this test's program again, as the process that has the directory; returns when it has.
fn start_owner(dir: &Path) -> Child {
    let name = "directory::a_directory_that_another_process_has_is_refused_until_that_is_killed";
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture"]).env(INNER, dir).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let opened = output.lines().any(|line| line.expect("text").ends_with("the owner is open"));
    assert!(opened, "it ended instead: {:?}", child.wait());
    child
}

/// Holds the directory until the parent kills this process, or dies.
async fn own(dir: &Path) {
    let node = open(dir).await.expect("opens");
    let rows = vec![batch(&[("b", 2)])];
    node.append(&caller(), "t", rows).await.expect("appends");
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nthe owner is open").and_then(|()| out.flush()).expect("the parent listens");
    drop(out);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent's end of the pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_another_process_has_is_refused_until_that_is_killed() {
    if let Some(dir) = std::env::var_os(INNER) {
        return own(Path::new(&dir)).await;
    }
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    let dir = lake.dir();
    let Lake { node, root } = lake;
    node.shutdown().await.expect("stops");
    let mut owner = start_owner(&dir);
    let error = open(&dir).await.expect_err("another process has it");
    let named = matches!(&error, Error::DirectoryLocked { path } if *path == dir);
    assert!(named, "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().is_some_and(|hint| hint.contains("running server")), "{error}");
    owner.kill().expect("kill -9");
    owner.wait().expect("it ends");
    let lake = Lake { node: open(&dir).await.expect("nobody has it").into(), root };
    assert_eq!(lake.rows().await, expect(&[("a", 1), ("b", 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_a_newer_version_is_refused_and_left_as_it_is() {
    let lake = Lake::keyed().await;
    lake.append(&[("a", 1)]).await;
    let dir = lake.dir();
    let Lake { node, root } = lake;
    node.shutdown().await.expect("stops");
    let identity = dir.join("node.alluvium");
    let ours = std::fs::read(&identity).expect("reads");
    let mut newer = ours.clone();
    newer[8] = 9;
    write(&identity, &newer);
    let error = open(&dir).await.expect_err("a newer version");
    let named = matches!(&error, Error::NewerDirectory { path, found: 9, .. } if *path == dir);
    assert!(named, "{error:?}");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(std::fs::read(&identity).expect("reads"), newer);
    write(&identity, &ours);
    let lake = Lake { node: open(&dir).await.expect("as it was").into(), root };
    assert_eq!(lake.rows().await, expect(&[("a", 1)]));
}

#[expect(clippy::disallowed_methods, reason = "the test needs no durable bytes")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("writes");
}
