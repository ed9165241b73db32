//! The repository's own rules, each a function from the tree to what breaks it.
//!
//! Prose does not hold a line, a failing check does: a rule of docs/STYLE.md that can be checked stands
//! here. A check must not change the tree. Invariant: every check has a test that shows it catching a bad
//! input, so that no check passes because it looks at nothing.

mod banned;
mod budget;
pub(crate) mod doc_hash;
mod edges;
mod failpoints;
mod invariants;
pub(crate) mod manifests;
mod markdown;
mod names;
mod references;
mod size;

use crate::tree::Tree;

/// One broken rule.
#[derive(Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) path: String,
    /// 0 when the rule is about the whole file.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Violation {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }

    /// `path:line: message`, which editors and terminals can follow.
    pub(crate) fn render(&self) -> String {
        if self.line == 0 {
            return format!("{}: {}", self.path, self.message);
        }
        format!("{}:{}: {}", self.path, self.line, self.message)
    }
}

type Check = fn(&Tree) -> Vec<Violation>;

const CHECKS: [Check; 11] = [
    size::check,
    names::check,
    banned::check,
    budget::check,
    manifests::check,
    edges::check,
    invariants::check,
    failpoints::check,
    markdown::check,
    references::check,
    doc_hash::check,
];

/// Runs every check.
pub(crate) fn run(tree: &Tree) -> Vec<Violation> {
    let mut found: Vec<Violation> = CHECKS.iter().flat_map(|check| check(tree)).collect();
    found.sort_by(|a, b| (&a.path, a.line, &a.message).cmp(&(&b.path, b.line, &b.message)));
    found
}

/// Asserts what `check` says about `files`: one part of a message per expected violation.
#[cfg(test)]
fn assert_caught(check: Check, files: &[(&str, &str)], expected: &[&str]) {
    let found: Vec<String> = check(&Tree::of(files)).iter().map(Violation::render).collect();
    assert_eq!(found.len(), expected.len(), "expected {expected:#?}, found {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "expected {expected:?} in {found:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::Violation;

    #[test]
    fn the_repository_keeps_its_own_rules() {
        let root = crate::child::root().expect("the tests run inside the checkout");
        let tree = crate::tree::Tree::read(&root).expect("the checkout is readable");
        assert!(tree.sources.len() > 20, "the tree was read: {}", tree.sources.len());
        let found: Vec<String> = super::run(&tree).iter().map(Violation::render).collect();
        assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
    }
}
