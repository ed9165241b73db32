//! Constructs that the compiler accepts and a reader should not have to.
//!
//! It must not repeat what a lint already denies with a better message, unless the lint can be switched
//! off in the file itself. Invariant: patterns are matched in code or in comments, never inside literals.

use super::Violation;
use crate::source::{Source, numbered};
use crate::tree::Tree;

/// Banned in all code, tests included: the text, and what to do instead.
const CODE: [(&str, &str); 8] = [
    ("#[allow(", "`#[expect(lint, reason = \"..\")]`, which ends when the reason does"),
    ("#![allow(", "`#![expect(lint, reason = \"..\")]`, which ends when the reason does"),
    ("#[ignore", "fix the test, or delete it"),
    ("should_panic", "assert the message: `catch_unwind`, or a typed error"),
    ("dbg!(", "remove it"),
    ("todo!(", "finish it"),
    ("unimplemented!(", "finish it"),
    ("Other(String)", "a variant with fields for each failure"),
];

/// Where a swallowed error loses data.
const STRICT: [&str; 3] = ["wal/", "crates/metastore/", "raft/"];

const MARKERS: [&str; 4] = ["FIXME", "TODO", "XXX", "HACK"];

/// How a line of code begins, as seen in a comment.
const CODE_STARTS: [&str; 13] = [
    "let ", "fn ", "pub ", "use ", "return ", "self.", "impl ", "struct ", "match ", "mod ",
    "assert", "#[", "for ",
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.is_generated()) {
        found.extend(banned_code(source));
        found.extend(swallowed_errors(source));
        found.extend(comments(source));
        found.extend(string_payloads(source));
    }
    found
}

fn banned_code(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, code) in numbered(&source.masked.code) {
        for (text, instead) in CODE {
            if code.contains(text) {
                let message = format!("`{text}` is banned; instead: {instead}");
                found.push(Violation::new(&source.path, line, message));
            }
        }
    }
    found
}

fn swallowed_errors(source: &Source) -> Vec<Violation> {
    if !STRICT.iter().any(|prefix| source.path.starts_with(prefix)) {
        return Vec::new();
    }
    let lines = source.product_code().filter(|(_, code)| code.contains("unwrap_or_default()"));
    let message =
        "`unwrap_or_default()` hides a failure here: handle it, or `expect` with a reason";
    lines.map(|(line, _)| Violation::new(&source.path, line, message)).collect()
}

fn comments(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, comment) in numbered(&source.masked.comments) {
        for marker in MARKERS {
            if is_unowned_marker(comment, marker) {
                let message =
                    format!("`{marker}` without an id: `{marker}(ADR-0001)`, or do it now");
                found.push(Violation::new(&source.path, line, message));
            }
        }
        if is_commented_out_code(comment) {
            found.push(Violation::new(&source.path, line, "commented-out code: delete it"));
        }
    }
    found
}

/// Whether `marker` stands as a word without `(id)` behind it.
fn is_unowned_marker(comment: &str, marker: &str) -> bool {
    comment.match_indices(marker).any(|(start, _)| {
        let before = comment.get(..start).and_then(|text| text.chars().next_back());
        let after = comment.get(start + marker.len()..).and_then(|text| text.chars().next());
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let is_quoted = before == Some('`');
        !is_word(before) && !is_word(after) && !is_quoted && after != Some('(')
    })
}

fn is_commented_out_code(comment: &str) -> bool {
    let Some(text) = comment.trim().strip_prefix("//") else { return false };
    if text.starts_with(['/', '!']) {
        return false;
    }
    let text = text.trim();
    let ends = text.ends_with(';') || text.ends_with('{') || text.ends_with(")]");
    ends && CODE_STARTS.iter().any(|start| text.starts_with(start))
}

/// `Variant(String)` in an `error.rs`: a caller cannot match on prose.
fn string_payloads(source: &Source) -> Vec<Violation> {
    if !source.path.ends_with("/error.rs") {
        return Vec::new();
    }
    let is_payload = |code: &str| code.trim().trim_end_matches(',').ends_with("(String)");
    let lines = source.product_code().filter(|(_, code)| is_payload(code));
    let lines = lines.filter(|(_, code)| !code.contains("Other(String)"));
    let message = "a bare `String` payload: name the operation and its subject in fields";
    lines.map(|(line, _)| Violation::new(&source.path, line, message)).collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::assert_caught;

    #[test]
    fn banned_code_is_caught_in_code_and_not_in_text() {
        for bad in [
            "#[allow(dead_code)]\nfn a() {}",
            "#![allow(dead_code)]",
            "#[ignore = \"slow\"]\nfn a() {}",
            "#[should_panic]\nfn a() {}",
            "fn a() { dbg!(1); }",
            "fn a() { todo!() }",
            "fn a() { unimplemented!() }",
            "enum E { Other(String) }",
        ] {
            assert_caught(check, &[("crates/query/src/a.rs", bad)], &["is banned"]);
        }
        let quoted = "const A: &str = \"todo!()\"; // never #[allow(x)] here\n";
        assert_caught(check, &[("crates/query/src/a.rs", quoted)], &[]);
    }

    #[test]
    fn a_hidden_failure_is_caught_where_it_loses_data() {
        let text = "fn a() { b().unwrap_or_default(); }\n";
        assert_caught(check, &[("wal/src/a.rs", text)], &["hides a failure"]);
        assert_caught(check, &[("raft/src/a.rs", text)], &["hides a failure"]);
        assert_caught(check, &[("crates/metastore/src/a.rs", text)], &["hides a failure"]);
        assert_caught(check, &[("crates/cli/src/a.rs", text)], &[]);
        assert_caught(check, &[("wal/src/a/tests.rs", text)], &[]);
    }

    #[test]
    fn a_marker_needs_an_id() {
        assert_caught(check, &[("wal/src/a.rs", "// TODO later\n")], &["`TODO` without an id"]);
        assert_caught(check, &[("wal/src/a.rs", "/// FIXME: now\n")], &["`FIXME` without an id"]);
        assert_caught(check, &[("wal/src/a.rs", "// TODO(ADR-0003) and a `TODO`\n")], &[]);
    }

    #[test]
    fn commented_out_code_is_caught_and_prose_is_not() {
        for bad in ["// let a = 1;", "//fn a() {", "    // self.a();", "// #[cfg(test)]"] {
            assert_caught(check, &[("wal/src/a.rs", bad)], &["commented-out code"]);
        }
        let prose = "// for a while; then\n/// let a = 1;\n// returns early;\n// use it once\n";
        assert_caught(check, &[("wal/src/a.rs", prose)], &[]);
    }

    #[test]
    fn an_error_of_prose_is_caught() {
        let text = "enum Error {\n    Open(String),\n    Name { name: String },\n}\n";
        assert_caught(check, &[("wal/src/error.rs", text)], &["error.rs:2: a bare `String`"]);
    }
}
