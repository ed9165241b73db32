//! The one place that writes to the terminal.
//!
//! Results go to standard output, progress and errors to standard error. It must not decide anything.
//! Invariant: what a measuring process answers is one line on standard output.

/// Prints a result.
#[expect(clippy::print_stdout, reason = "a command line tool answers on standard output")]
pub fn say(text: &str) {
    println!("{}", text.trim_end());
}

/// Prints progress or an error.
#[expect(clippy::print_stderr, reason = "a command line tool reports on standard error")]
pub fn warn(text: &str) {
    eprintln!("{}", text.trim_end());
}
