//! A page that describes bytes carries the hash of the code that writes them.
//!
//! Each page in docs/formats/ has lines `Source: <path> fnv1a64:<hash>`. When the code changes, the check
//! fails until someone has read the page again and run `cargo xtask fix`. It must not be mistaken for proof
//! that the page is right. Invariant: `refreshed` changes nothing but the hashes.

use super::Violation;
use crate::source::numbered;
use crate::tree::Tree;

const FOLDER: &str = "docs/formats/";
const MARK: &str = "Source: ";
const KIND: &str = "fnv1a64:";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for page in tree.pages.iter().filter(|page| is_format(&page.path)) {
        let mut sources = 0;
        for (line, text) in numbered(&page.text) {
            let Some((path, written)) = source_line(text) else { continue };
            sources += 1;
            let verdict = match tree.source(path) {
                None => Some(format!("source `{path}` does not exist")),
                Some(source) if written == Some(hash(&source.text)).as_deref() => None,
                Some(_) => Some(format!(
                    "`{path}` changed: read this page again, then run `cargo xtask fix`"
                )),
            };
            found.extend(verdict.map(|message| Violation::new(&page.path, line, message)));
        }
        if sources == 0 {
            let message =
                format!("no line `{MARK}<path> {KIND}<hash>`: which code writes this format?");
            found.push(Violation::new(&page.path, 0, message));
        }
    }
    found
}

fn is_format(path: &str) -> bool {
    path.starts_with(FOLDER) && !path.ends_with("README.md")
}

/// Takes a source line apart: the path, and the hash if there is one.
fn source_line(text: &str) -> Option<(&str, Option<&str>)> {
    let mut words = text.strip_prefix(MARK)?.split_whitespace();
    let path = words.next()?.trim_matches('`');
    Some((path, words.next().map(|word| word.trim_matches('`'))))
}

/// FNV-1a, 64 bits: it only has to notice a change, not resist an attacker.
fn hash(text: &str) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{KIND}{state:016x}")
}

/// Returns the pages whose hashes are out of date, with their new text.
pub(crate) fn refreshed(tree: &Tree) -> Vec<(&str, String)> {
    let mut changed = Vec::new();
    for page in tree.pages.iter().filter(|page| is_format(&page.path)) {
        let mut text = String::with_capacity(page.text.len());
        for line in page.text.lines() {
            let fresh = source_line(line).and_then(|(path, _)| {
                let source = tree.source(path)?;
                Some(format!("{MARK}`{path}` {}", hash(&source.text)))
            });
            text.push_str(fresh.as_deref().unwrap_or(line));
            text.push('\n');
        }
        if text != page.text {
            changed.push((page.path.as_str(), text));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::{check, hash, refreshed};
    use crate::tidy::assert_caught;
    use crate::tree::Tree;

    const CODE: (&str, &str) = ("wal/src/record.rs", "//! Records.\n");

    #[test]
    fn the_hash_is_the_published_fnv1a() {
        assert_eq!(hash(""), "fnv1a64:cbf29ce484222325");
        assert_eq!(hash("foobar"), "fnv1a64:85944171f73967e8");
    }

    #[test]
    fn a_page_that_is_older_than_its_code_is_caught_until_it_is_refreshed() {
        let stale = ("docs/formats/wal.md", "# WAL\n\nSource: wal/src/record.rs fnv1a64:00\n");
        assert_caught(check, &[CODE, stale], &["wal.md:3: `wal/src/record.rs` changed"]);
        let tree = Tree::of(&[CODE, stale]);
        let [(path, text)] = refreshed(&tree).try_into().expect("one page");
        assert_eq!(path, "docs/formats/wal.md");
        assert_caught(check, &[CODE, (path, &text)], &[]);
        assert!(refreshed(&Tree::of(&[CODE, (path, &text)])).is_empty(), "fix is idempotent");
    }

    #[test]
    fn a_page_without_a_source_is_caught() {
        assert_caught(check, &[("docs/formats/wal.md", "# WAL\n")], &["which code writes this"]);
        let gone = ("docs/formats/wal.md", "# WAL\nSource: wal/src/gone.rs\n");
        assert_caught(check, &[gone], &["source `wal/src/gone.rs` does not exist"]);
    }
}
