//! What people see beside results: notes and progress, on standard error.
//!
//! It must not draw when nobody looks. Invariant: nothing here goes to standard output.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, BufRead, IsTerminal, Write};

use tokio::time::Instant;

use crate::failure::Failure;

/// Writes a line to standard error.
pub(crate) fn note(text: &str) {
    // There is nowhere to report that standard error is closed.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Rows that are being sent, with a bar when standard error is a terminal. Clones show one bar.
#[derive(Debug, Clone)]
pub(crate) struct Loading {
    bar: ProgressBar,
    start: Instant,
}

impl Loading {
    pub(crate) fn start() -> Self {
        let target = match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target).with_style(style());
        Self { bar, start: Instant::now() }
    }

    /// Shows how far the file was read.
    pub(crate) fn advance(&self, progress: alluvium_ingest::Progress, rows: u64) {
        if let Some(total) = progress.total {
            self.bar.set_length(total);
        }
        self.bar.set_position(progress.done);
        self.bar.set_message(format!("{} rows", grouped(rows)));
    }

    /// Ends the bar and returns the seconds since the start.
    pub(crate) fn finish(&self) -> f64 {
        self.bar.finish_and_clear();
        self.start.elapsed().as_secs_f64()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar} {percent:>3}% {msg} {eta} left")
        .expect("the template is constant and right")
}

/// Says what will happen and has somebody type `expected`, which is called `what`; returns whether they did.
pub(crate) fn typed(effect: &str, what: &str, expected: &str) -> Result<bool, Failure> {
    let mut out = io::stderr().lock();
    let asked = write!(out, "{effect} Type {what} to go on: ");
    asked.and_then(|()| out.flush()).map_err(|error| Failure::io("ask", &error))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| Failure::io("read", &error))?;
    Ok(answer.trim() == expected)
}

/// Returns rows a second as people say it.
pub(crate) fn rate(rows: u64, seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people, rounded on purpose; the cast saturates"
    )]
    let per_second = (rows as f64 / seconds.max(0.000_001)) as u64;
    format!("{} rows/s", grouped(per_second))
}

/// Returns a number with commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if 0 < position && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_have_commas() {
        let texts = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
