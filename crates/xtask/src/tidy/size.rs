//! Files and functions that fit a head and a screen, and a header that says what a file is.
//!
//! It must not count tests against a file. Invariant: a ceiling above the limit has a reason, and is
//! removed once the file fits again (a ratchet, not an amnesty).

use super::Violation;
use crate::source::Source;
use crate::tree::Tree;

const FILE_LINES: usize = 500;
const FILE_LINES_HARD: usize = 700;
const FUNCTION_LINES: usize = 70;

/// Files above the limit: path, ceiling (never above the hard one), reason.
const CEILINGS: [(&str, usize, &str); 0] = [];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.is_generated()) {
        found.extend(header(source));
        found.extend(file_length(source, &CEILINGS));
        found.extend(function_lengths(source));
    }
    found
}

fn header(source: &Source) -> Option<Violation> {
    let first = source.text.lines().next().unwrap_or_default();
    if first.starts_with("//! ") {
        return None;
    }
    let message = "the first line is not a `//!` header: what the file is, what it must not do";
    Some(Violation::new(&source.path, 1, message))
}

fn file_length(source: &Source, ceilings: &[(&str, usize, &str)]) -> Option<Violation> {
    let lines = source.non_test_lines();
    let ceiling = ceilings.iter().find(|(path, _, _)| *path == source.path);
    if let Some((_, _, reason)) = ceiling
        && lines <= FILE_LINES
    {
        let message = format!("fits again: remove its ceiling ({reason}) from tidy/size.rs");
        return Some(Violation::new(&source.path, 0, message));
    }
    let limit = ceiling.map_or(FILE_LINES, |(_, lines, _)| (*lines).min(FILE_LINES_HARD));
    let message = format!("{lines} non-test lines, at most {limit}: split by idea");
    (lines > limit).then(|| Violation::new(&source.path, 0, message))
}

fn function_lengths(source: &Source) -> impl Iterator<Item = Violation> {
    let long = source.functions.iter().filter(|f| !f.is_test_code && f.lines > FUNCTION_LINES);
    long.map(|f| {
        let message = format!("fn {} has {} lines, at most {FUNCTION_LINES}", f.name, f.lines);
        Violation::new(&source.path, f.line, message)
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, check, file_length};
    use crate::tidy::assert_caught;

    fn file_of(lines: usize) -> String {
        format!("//! A file.\n{}", "const A: u8 = 1;\n".repeat(lines - 1))
    }

    #[test]
    fn a_file_above_the_limit_is_caught_and_tests_do_not_count() {
        assert_caught(check, &[("wal/src/a.rs", &file_of(500))], &[]);
        assert_caught(check, &[("wal/src/a.rs", &file_of(501))], &["501 non-test lines"]);
        assert_caught(check, &[("wal/src/a/tests.rs", &file_of(501))], &[]);
        assert_caught(check, &[("crates/proto/src/generated/a.rs", &file_of(501))], &[]);
    }

    #[test]
    fn a_ceiling_has_a_ceiling_and_ends_when_the_file_fits() {
        let ceilings = [("wal/src/a.rs", 9_999, "one table")];
        let verdict = |lines| {
            let source = Source::new("wal/src/a.rs", &file_of(lines));
            file_length(&source, &ceilings).map(|violation| violation.message)
        };
        assert_eq!(verdict(700), None);
        assert_eq!(verdict(701).as_deref(), Some("701 non-test lines, at most 700: split by idea"));
        assert!(verdict(500).expect("a stale ceiling").starts_with("fits again"));
    }

    #[test]
    fn a_function_above_the_limit_is_caught_unless_it_is_a_test() {
        let body = "    a();\n".repeat(69);
        let long = format!("//! A file.\nfn f() {{\n{body}}}\n");
        assert_caught(check, &[("wal/src/a.rs", &long)], &["a.rs:2: fn f has 71 lines"]);
        let fits = long.replacen("    a();\n", "", 1);
        assert_caught(check, &[("wal/src/a.rs", &fits)], &[]);
        assert_caught(check, &[("wal/tests/a.rs", &long)], &[]);
    }

    #[test]
    fn a_missing_header_is_caught() {
        assert_caught(check, &[("wal/src/a.rs", "mod b;\n")], &["not a `//!` header"]);
    }
}
