//! Invariants have ids: each one in the code is explained in docs/INVARIANTS.md, and each one explained
//! is in the code.
//!
//! It must not accept an id that only a test uses as the code's own. Invariant: ids are unique in the page.

use super::Violation;
use crate::source::numbered;
use crate::tree::Tree;
use std::collections::BTreeMap;

const PAGE: &str = "docs/INVARIANTS.md";
/// Shows the macro with invented ids.
const EXEMPT: [&str; 2] = ["crates/stdx/src/invariant.rs", "crates/xtask/"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let used = used_ids(tree);
    let mut explained: BTreeMap<String, usize> = BTreeMap::new();
    let page = tree.page(PAGE).map_or("", |page| page.text.as_str());
    for (line, row) in numbered(page) {
        let Some(cell) = row.trim().strip_prefix('|').and_then(|row| row.split('|').next()) else {
            continue;
        };
        for id in ids(cell) {
            if let Some(first) = explained.insert(id.clone(), line) {
                let message = format!("{id} is explained twice, first in line {first}");
                found.push(Violation::new(PAGE, line, message));
            }
        }
    }
    for (id, (path, line)) in &used {
        if !explained.contains_key(id) {
            let message = format!("{id} is not explained in {PAGE}");
            found.push(Violation::new(path, *line, message));
        }
    }
    for (id, line) in &explained {
        if !used.contains_key(id) {
            found.push(Violation::new(PAGE, *line, format!("{id} is nowhere in the code")));
        }
    }
    found
}

/// Every id outside tests, in strings, comments or code, with the first place it stands.
fn used_ids(tree: &Tree) -> BTreeMap<String, (String, usize)> {
    let mut used = BTreeMap::new();
    for source in &tree.sources {
        if EXEMPT.iter().any(|exempt| source.path.starts_with(exempt)) {
            continue;
        }
        for (line, text) in numbered(&source.text) {
            if source.is_test_line(line) {
                continue;
            }
            for id in ids(text) {
                used.entry(id).or_insert_with(|| (source.path.clone(), line));
            }
        }
    }
    used
}

/// Finds `INV-` followed by letters and a number.
fn ids(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("INV-") {
        let rest = text.get(start + 4..).unwrap_or_default();
        let letters = rest.bytes().take_while(u8::is_ascii_uppercase).count();
        let digits = rest.bytes().skip(letters).take_while(u8::is_ascii_digit).count();
        if letters > 0 && digits > 0 {
            let end = start + 4 + letters + digits;
            found.push(text.get(start..end).unwrap_or_default().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{PAGE, check};
    use crate::tidy::assert_caught;

    const CODE: (&str, &str) =
        ("wal/src/a.rs", "fn a() { invariant!(\"INV-W3\", true, \"x\"); }\n");

    #[test]
    fn an_id_that_is_explained_nowhere_is_caught() {
        assert_caught(check, &[CODE], &["a.rs:1: INV-W3 is not explained"]);
        assert_caught(check, &[CODE, (PAGE, "| INV-W3 | text |\n")], &[]);
    }

    #[test]
    fn an_id_that_no_code_keeps_is_caught() {
        let page = "| INV-W3 | text |\n| INV-W4 | see INV-W3 |\n";
        assert_caught(check, &[CODE, (PAGE, page)], &["INVARIANTS.md:2: INV-W4 is nowhere"]);
        let test = ("wal/tests/a.rs", "const A: &str = \"INV-W4\";\n");
        assert_caught(check, &[CODE, test, (PAGE, page)], &["INV-W4 is nowhere"]);
    }

    #[test]
    fn an_id_with_two_meanings_is_caught() {
        let page = "| INV-W3 | a |\n| INV-W3 | b |\n";
        assert_caught(check, &[CODE, (PAGE, page)], &["INV-W3 is explained twice"]);
    }
}
