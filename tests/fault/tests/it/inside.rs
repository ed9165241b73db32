//! A test that runs itself again under the shim: the fault is then in the process that asserts.

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alluvium_fault::{Fault, shim};

/// Where the inner process finds its directory.
const INNER: &str = "ALLUVIUM_FAULT_INNER";

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

/// Runs `inner` on `dir` in a process of its own, with the fault on the files below `watched`.
///
/// `test` is the name of the calling test, with its module. In the inner process, `dir` is what the outer one gave.
pub(crate) fn run<F: Future<Output = ()>>(
    test: &str,
    dir: &Path,
    (fault, watched): (&Fault, &Path),
    inner: impl FnOnce(PathBuf) -> F,
) {
    if let Some(dir) = std::env::var_os(INNER) {
        return runtime().block_on(inner(PathBuf::from(dir)));
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test]).env(INNER, OsString::from(dir));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    shim::Shim::build().expect("a C compiler").apply(&mut command, fault, watched);
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test is called {test}: {text}");
}

/// Whether this is the inner process: what the outer one prepares and checks is not its task.
pub(crate) fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}
