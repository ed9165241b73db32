//! Pages that can be read: one title, links that lead somewhere, and no longer than they are useful.
//!
//! It must not fetch anything: only local links are followed. Invariant: fenced code is not prose.

use super::Violation;
use crate::source::numbered;
use crate::tree::Tree;

/// Pages and folders with a limit on their lines.
const LENGTHS: [(&str, usize); 3] =
    [("README.md", 120), ("docs/HACKING.md", 160), ("docs/adr/", 80)];

const FRAGMENTS: &str = "docs/changelog.d/";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for page in &tree.pages {
        let prose = without_fences(&page.text);
        found.extend(title(&page.path, &prose));
        found.extend(length(&page.path, &page.text));
        for (line, text) in numbered(&prose) {
            for target in links(text) {
                if !resolves(tree, &page.path, &target) {
                    let message = format!("link to `{target}` leads nowhere");
                    found.push(Violation::new(&page.path, line, message));
                }
            }
        }
    }
    found
}

fn title(path: &str, prose: &str) -> Option<Violation> {
    let titles = prose.lines().filter(|line| line.starts_with("# ")).count();
    let is_fragment = path.starts_with(FRAGMENTS) && !path.ends_with("README.md");
    let expected = usize::from(!is_fragment);
    let message = format!("{titles} titles (`# ..`), expected {expected}");
    (titles != expected).then(|| Violation::new(path, 0, message))
}

fn length(path: &str, text: &str) -> Option<Violation> {
    let matches = |limit: &str| path == limit || (limit.ends_with('/') && path.starts_with(limit));
    let (_, limit) = LENGTHS.iter().find(|(name, _)| matches(name))?;
    let lines = text.lines().count();
    let message = format!("{lines} lines, at most {limit}");
    (lines > *limit).then(|| Violation::new(path, 0, message))
}

/// Blanks fenced blocks and inline code, keeping the lines.
pub(super) fn without_fences(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut in_fence = false;
    for line in text.lines() {
        let is_mark = line.trim_start().starts_with("```");
        if !in_fence && !is_mark {
            let outside = line.split('`').step_by(2);
            kept.push_str(&outside.collect::<Vec<_>>().join("`"));
        }
        in_fence ^= is_mark;
        kept.push('\n');
    }
    kept
}

/// The targets of local links in one line.
fn links(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in line.match_indices("](") {
        let rest = line.get(start + 2..).unwrap_or_default();
        let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
        let is_remote = target.contains("://") || target.starts_with("mailto:");
        if !target.is_empty() && !is_remote {
            found.push(target.to_owned());
        }
    }
    found
}

fn resolves(tree: &Tree, page: &str, target: &str) -> bool {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return false,
            ".." => {}
            name => parts.push(name),
        }
    }
    parts.is_empty() || tree.paths.contains(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::assert_caught;

    #[test]
    fn a_page_has_one_title() {
        assert_caught(check, &[("docs/A.md", "# A\n# B\n")], &["2 titles"]);
        assert_caught(check, &[("docs/A.md", "text\n")], &["0 titles"]);
        assert_caught(check, &[("docs/A.md", "# A\n```sh\n# not a title\n```\n")], &[]);
        assert_caught(check, &[("docs/changelog.d/a.md", "- text\n")], &[]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_caught() {
        let page =
            "# A\n[b](B.md#part) [c](../wal/src/c.rs) [d](https://d) [e](#here) `[f](F.md)`\n";
        let found = ["A.md:2: link to `B.md`", "A.md:2: link to `../wal/src/c.rs`"];
        assert_caught(check, &[("docs/A.md", page)], &found);
        let there = [("docs/A.md", page), ("docs/B.md", "# B\n"), ("wal/src/c.rs", "//! C.\n")];
        assert_caught(check, &there, &[]);
    }

    #[test]
    fn a_page_above_its_limit_is_caught() {
        let text = format!("# A\n{}", "text\n".repeat(120));
        assert_caught(check, &[("README.md", &text)], &["121 lines, at most 120"]);
        assert_caught(check, &[("docs/adr/0001-a.md", &text)], &["121 lines, at most 80"]);
        assert_caught(check, &[("docs/GLOSSARY.md", &text)], &[]);
    }
}
