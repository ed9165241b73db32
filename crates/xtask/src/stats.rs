//! How large files and functions are, crate by crate, so that a reviewer sees drift.
//!
//! It must not fail a build: the limits are in `tidy`. Invariant: a percentile is a value that occurs.

use crate::source::Source;
use crate::tree::Tree;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Default)]
struct Row {
    files: Vec<usize>,
    functions: Vec<usize>,
    lines: usize,
    test_lines: usize,
}

impl Row {
    fn add(&mut self, source: &Source) {
        let product = source.non_test_lines();
        self.lines += source.lines();
        self.test_lines += source.lines() - product;
        if product > 0 {
            self.files.push(product);
        }
        let own = source.functions.iter().filter(|function| !function.is_test_code);
        self.functions.extend(own.map(|function| function.lines));
    }

    fn render(&mut self, name: &str) -> String {
        self.files.sort_unstable();
        self.functions.sort_unstable();
        let long = self.functions.iter().filter(|lines| **lines > 70).count();
        format!(
            "{name:<24} {:>6} {:>7} {:>5}% {:>5} / {:<5} {:>4} / {:<4} {long:>5}",
            self.files.len(),
            self.lines,
            self.test_lines * 100 / self.lines.max(1),
            percentile(&self.files, 50),
            percentile(&self.files, 95),
            percentile(&self.functions, 50),
            percentile(&self.functions, 95),
        )
    }
}

/// Returns the table, one row for each crate and one for all.
pub(crate) fn render(tree: &Tree) -> String {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut all = Row::default();
    for source in tree.sources.iter().filter(|source| !source.is_generated()) {
        rows.entry(crate_of(&source.path)).or_default().add(source);
        all.add(source);
    }
    let mut table = format!(
        "{:<24} {:>6} {:>7} {:>6} {:>13} {:>11} {:>5}\n",
        "crate", "files", "lines", "tests", "file p50/p95", "fn p50/p95", "> 70"
    );
    for (name, row) in &mut rows {
        table.push_str(&row.render(name));
        table.push('\n');
    }
    let total = all.render("all");
    // Writing to a String cannot fail, and a lost total would be visible at once.
    writeln!(table, "{total}").expect("a String accepts every write");
    table
}

fn crate_of(path: &str) -> String {
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    match (first, parts.next()) {
        ("crates" | "tests", Some(second)) => format!("{first}/{second}"),
        _ => first.to_owned(),
    }
}

fn percentile(sorted: &[usize], percent: usize) -> usize {
    let position = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(position).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{percentile, render};
    use crate::tree::Tree;

    #[test]
    fn a_percentile_is_a_value_that_occurs() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 95), 7);
        assert_eq!(percentile(&[1, 2, 3, 4], 50), 2);
        assert_eq!(percentile(&[1, 2, 3, 4], 95), 4);
    }

    #[test]
    fn each_crate_has_a_row_and_tests_are_counted_apart() {
        let table = render(&Tree::of(&[
            ("wal/src/a.rs", "//! A.\nfn a() {}\n"),
            ("wal/src/a/tests.rs", "fn b() {}\nfn c() {}\n"),
            ("crates/stdx/src/b.rs", "//! B.\n"),
        ]));
        let words = |name: &str| -> Vec<String> {
            let row = table.lines().find(|line| line.starts_with(name)).expect("a row");
            row.split_whitespace().map(ToOwned::to_owned).collect()
        };
        assert_eq!(words("wal")[1..4], ["1", "4", "50%"]);
        assert_eq!(words("crates/stdx")[1..4], ["1", "1", "0%"]);
        assert_eq!(words("all")[1..3], ["2", "5"]);
    }
}
