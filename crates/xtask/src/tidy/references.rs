//! Pages that name a test name one that exists.
//!
//! A reference is written `path/to/file.rs::function` in backticks. Each row of docs/GUARANTEES.md has one;
//! the museum table of docs/TESTING.md and the `museum_mNN_..` tests must agree. It must not judge whether
//! a test proves the sentence beside it. Invariant: a guarantee without a test cannot be published.

use super::Violation;
use crate::source::numbered;
use crate::tree::Tree;
use std::collections::BTreeSet;

const GUARANTEES: &str = "docs/GUARANTEES.md";
const TESTING: &str = "docs/TESTING.md";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for page in &tree.pages {
        for (line, text) in numbered(&page.text) {
            for (file, function) in references(text) {
                let known = tree
                    .source(file)
                    .is_some_and(|source| source.functions.iter().any(|f| f.name == function));
                if !known {
                    let message = format!("`{file}::{function}` does not exist");
                    found.push(Violation::new(&page.path, line, message));
                }
            }
        }
    }
    found.extend(guarantees(tree));
    found.extend(museum(tree));
    found
}

/// The references in one line: file and function.
fn references(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let pairs = quoted.filter_map(|inner| inner.split_once(".rs::").map(|pair| (inner, pair)));
    let is_name = |name: &str| name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
    pairs
        .filter(|(_, (_, function))| !function.is_empty() && is_name(function))
        .map(|(inner, (file, function))| (inner.get(..file.len() + 3).unwrap_or(file), function))
        .collect()
}

/// Table rows of a page, without the header row and the rule below it.
fn rows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_header =
        move |line: usize| lines.get(line).is_some_and(|next| next.trim_start().starts_with("|-"));
    numbered(text).filter(move |(line, row)| {
        let row = row.trim_start();
        row.starts_with('|') && !row.starts_with("|-") && !is_header(*line)
    })
}

fn guarantees(tree: &Tree) -> Vec<Violation> {
    let text = tree.page(GUARANTEES).map_or("", |page| page.text.as_str());
    let unproved = rows(text).filter(|(_, row)| references(row).is_empty());
    let message = "a guarantee without a test: name one as `path/file.rs::function`";
    unproved.map(|(line, _)| Violation::new(GUARANTEES, line, message)).collect()
}

fn museum(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut tests: BTreeSet<String> = BTreeSet::new();
    let text = tree.page(TESTING).map_or("", |page| page.text.as_str());
    let listed: BTreeSet<String> = rows(text).flat_map(|(_, row)| museum_ids(row)).collect();
    for source in tree.sources.iter().filter(|source| !source.path.starts_with("crates/xtask/")) {
        for function in source.functions.iter().filter(|f| f.is_test_code) {
            let ids = museum_ids(&function.name);
            for id in ids.iter().filter(|id| !listed.contains(*id)) {
                let message = format!("`{id}` is not in the museum table of {TESTING}");
                found.push(Violation::new(&source.path, function.line, message));
            }
            tests.extend(ids);
        }
    }
    for (line, row) in rows(text) {
        for id in museum_ids(row).iter().filter(|id| !tests.contains(*id)) {
            found.push(Violation::new(TESTING, line, format!("no test is called `{id}_..`")));
        }
    }
    found
}

/// Finds `museum_m` followed by a number.
fn museum_ids(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, mark) in text.match_indices("museum_m") {
        let rest = text.get(start + mark.len()..).unwrap_or_default();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() {
            found.push(format!("{mark}{digits}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{GUARANTEES, TESTING, check};
    use crate::tidy::assert_caught;

    const TEST: (&str, &str) = ("wal/tests/a.rs", "#[test]\nfn museum_m37_zeros_are_named() {}\n");
    const LISTED: (&str, &str) = (TESTING, "| M | test |\n|---|---|\n| M37 | `museum_m37` |\n");

    #[test]
    fn a_reference_to_a_test_that_does_not_exist_is_caught() {
        let page = ("docs/A.md", "see `wal/tests/a.rs::gone` and `wal/tests/a.rs`\n");
        assert_caught(
            check,
            &[TEST, LISTED, page],
            &["A.md:1: `wal/tests/a.rs::gone` does not exist"],
        );
    }

    #[test]
    fn a_guarantee_without_a_test_is_caught() {
        let header = "| promise | test |\n|---|---|\n";
        let bare = format!("{header}| durable | soon |\n");
        let found = ["GUARANTEES.md:3: a guarantee without a test"];
        assert_caught(check, &[TEST, LISTED, (GUARANTEES, &bare)], &found);
        let proved =
            format!("{header}| durable | `wal/tests/a.rs::museum_m37_zeros_are_named` |\n");
        assert_caught(check, &[TEST, LISTED, (GUARANTEES, &proved)], &[]);
    }

    #[test]
    fn museum_table_and_museum_tests_agree() {
        assert_caught(check, &[TEST, LISTED], &[]);
        assert_caught(check, &[TEST], &["a.rs:2: `museum_m37` is not in the museum table"]);
        assert_caught(check, &[LISTED], &["TESTING.md:3: no test is called `museum_m37_..`"]);
    }
}
