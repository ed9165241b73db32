//! The one place that writes to the terminal.
//!
//! Results go to standard output, notices and errors to standard error. It must not decide anything.
//! Invariant: every line an operator sees from xtask itself passes through here.

/// Prints a result.
#[expect(clippy::print_stdout, reason = "a command line tool answers on standard output")]
pub(crate) fn say(text: &str) {
    println!("{}", text.trim_end());
}

/// Prints a notice or an error.
#[expect(clippy::print_stderr, reason = "a command line tool reports on standard error")]
pub(crate) fn warn(text: &str) {
    eprintln!("{}", text.trim_end());
}

/// Announces a step, so that a long silence has a name.
pub(crate) fn step(text: &str) {
    warn(&format!("==> {text}"));
}
