//! Names that say nothing: crates, modules and types are called after what they are.
//!
//! It must not look at local names. Invariant: a banned word is caught in snake case and in camel case.

use super::Violation;
use crate::source::Source;
use crate::tree::Tree;

/// Banned as any part of a name.
const WORDS: [&str; 9] =
    ["util", "utils", "helper", "helpers", "manager", "common", "misc", "factory", "stuff"];

/// Banned as a whole name: they need a noun.
const BARE: [&str; 4] = ["data", "info", "process", "handler"];

const TYPE_KEYWORDS: [&str; 5] = ["struct ", "enum ", "trait ", "type ", "union "];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in tree.members() {
        let name = member.package().unwrap_or_default();
        let own = name.strip_prefix("alluvium-").unwrap_or(name);
        found.extend(verdict(own).map(|word| violation(&member.path, 0, "crate", name, word)));
    }
    for source in tree.sources.iter().filter(|source| !source.is_generated()) {
        found.extend(file_name(source));
        found.extend(type_names(source));
        found.extend(test_names(source));
    }
    found
}

fn violation(path: &str, line: usize, kind: &str, name: &str, word: &str) -> Violation {
    let message = format!("{kind} `{name}`: `{word}` says nothing, name what it is");
    Violation::new(path, line, message)
}

/// Returns the word that bans `name`.
fn verdict(name: &str) -> Option<&'static str> {
    let parts = words(name);
    if let [only] = parts.as_slice()
        && let Some(bare) = BARE.iter().find(|bare| *bare == only)
    {
        return Some(bare);
    }
    WORDS.iter().find(|word| parts.iter().any(|part| part == *word)).copied()
}

/// Splits `snake_case`, `kebab-case` and `CamelCase` into lower-case words.
fn words(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for character in name.chars() {
        if character.is_ascii_uppercase() || matches!(character, '_' | '-') {
            parts.push(String::new());
        }
        if character.is_ascii_alphanumeric()
            && let Some(last) = parts.last_mut()
        {
            last.push(character.to_ascii_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn file_name(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for part in source.path.split('/') {
        let name = part.trim_end_matches(".rs");
        found.extend(verdict(name).map(|word| violation(&source.path, 0, "module", name, word)));
    }
    found
}

fn type_names(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, code) in source.product_code() {
        // A type within an impl is an associated one: its trait, which may be another crate's, named it.
        if code.trim_start() != code && code.trim_start().starts_with("type ") {
            continue;
        }
        let declared =
            code.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let Some(rest) = TYPE_KEYWORDS.iter().find_map(|keyword| declared.strip_prefix(keyword))
        else {
            continue;
        };
        let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let name = rest.get(..length).unwrap_or_default();
        found.extend(verdict(name).map(|word| violation(&source.path, line, "type", name, word)));
    }
    found
}

/// A test is a sentence about behavior, so `test_` is noise.
fn test_names(source: &Source) -> impl Iterator<Item = Violation> {
    let noisy = source.functions.iter().filter(|f| f.is_test_case && f.name.starts_with("test_"));
    noisy.map(|f| {
        let message = format!("test `{}`: a sentence about behavior, without `test_`", f.name);
        Violation::new(&source.path, f.line, message)
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::assert_caught;

    #[test]
    fn banned_words_are_caught_in_crates_modules_and_types() {
        let manifest = "[package]\nname = \"alluvium-common\"\n";
        assert_caught(
            check,
            &[("crates/common/Cargo.toml", manifest)],
            &["crate `alluvium-common`"],
        );
        assert_caught(check, &[("wal/src/io_utils.rs", "//! A.\n")], &["module `io_utils`"]);
        assert_caught(check, &[("wal/src/helpers/a.rs", "//! A.\n")], &["module `helpers`"]);
        let text = "//! A.\npub(crate) struct LockManager;\nenum Info {}\nstruct InfoLine;\n";
        assert_caught(check, &[("wal/src/a.rs", text)], &["a.rs:2: type `LockManager`", "`Info`"]);
    }

    #[test]
    fn words_inside_other_words_and_inside_strings_are_fine() {
        let text = "//! A.\nstruct Miscible;\nconst A: &str = \"struct Manager\"; // enum Misc\n";
        assert_caught(check, &[("wal/src/commonality.rs", text)], &[]);
    }

    #[test]
    fn a_type_that_a_trait_has_named_is_fine() {
        let text = "//! A.\nimpl Body for A {\n    type Data = u8;\n}\n";
        assert_caught(check, &[("wal/src/a.rs", text)], &[]);
        let text = "//! A.\ntype Data = u8;\n";
        assert_caught(check, &[("wal/src/a.rs", text)], &["a.rs:2: type `Data`"]);
    }

    #[test]
    fn a_test_that_is_not_a_sentence_is_caught() {
        let text = "#[test]\nfn test_open() {}\n#[test]\nfn it_opens() {}\nfn test_bed() {}\n";
        assert_caught(check, &[("wal/tests/a.rs", text)], &["a.rs:2: test `test_open`"]);
    }
}
