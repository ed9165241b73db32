//! Every member inherits: lints, versions, features. Doc tests run at API boundaries only.
//!
//! It must not check versions: those stand once, in the root. Invariant: a dependency that does not say
//! `.workspace = true` is reported in whatever shape it is written.

use super::Violation;
use crate::manifest::Manifest;
use crate::tree::Tree;

/// Crates whose examples are compiled and run.
const DOCTESTED: [&str; 3] = ["alluvium-wal", "alluvium-state-machine", "alluvium-engine"];

/// Replaced by the standard library.
const OBSOLETE: [&str; 3] = ["lazy_static", "once_cell", "mockall"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in tree.members() {
        if member.get("lints", "workspace") != Some("true") {
            found.push(Violation::new(&member.path, 0, "no `[lints] workspace = true`"));
        }
        found.extend(doctest(tree, member));
        for dependency in member.dependencies() {
            if !dependency.is_inherited {
                let message = format!(
                    "`{}` does not say `.workspace = true`: version and features stand in the root",
                    dependency.name
                );
                found.push(Violation::new(&member.path, dependency.line, message));
            }
            if OBSOLETE.contains(&dependency.name) {
                let message =
                    format!("`{}` is banned: the standard library has it", dependency.name);
                found.push(Violation::new(&member.path, dependency.line, message));
            }
        }
    }
    found
}

fn doctest(tree: &Tree, member: &Manifest) -> Option<Violation> {
    let library = member.path.replace("Cargo.toml", "src/lib.rs");
    let is_library = tree.paths.contains(&library);
    let is_off = member.get("lib", "doctest") == Some("false");
    let is_boundary = member.package().is_some_and(|name| DOCTESTED.contains(&name));
    match (is_library, is_boundary, is_off) {
        (true, false, false) => {
            Some(Violation::new(&member.path, 0, "no `[lib] doctest = false`: each one is a link"))
        }
        (true, true, true) => {
            Some(Violation::new(&member.path, 0, "an API boundary: remove `doctest = false`"))
        }
        (true, true, false) | (true, false, true) | (false, _, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::assert_caught;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn caught(manifest: &str, expected: &[&str]) {
        assert_caught(check, &[("crates/a/Cargo.toml", manifest)], expected);
    }

    #[test]
    fn a_member_without_the_lints_is_caught() {
        caught("[package]\nname = \"a\"\n", &["no `[lints] workspace = true`"]);
        caught(&format!("[package]\nname = \"a\"\n{LINTS}"), &[]);
    }

    #[test]
    fn a_version_in_a_member_is_caught() {
        let base = format!("[package]\nname = \"a\"\n{LINTS}[dependencies]\n");
        caught(&format!("{base}bytes.workspace = true\n"), &[]);
        caught(&format!("{base}bytes = \"1\"\n"), &["`bytes` does not say `.workspace = true`"]);
        caught(&format!("{base}lazy_static.workspace = true\n"), &["`lazy_static` is banned"]);
    }

    #[test]
    fn doc_tests_run_at_boundaries_only() {
        let library = ("crates/a/src/lib.rs", "//! A.\n");
        let with = |name: &str, lib: &str| format!("[package]\nname = \"{name}\"\n{lib}{LINTS}");
        let off = "[lib]\ndoctest = false\n";
        for (name, lib, expected) in [
            ("alluvium-query", "", vec!["no `[lib] doctest = false`"]),
            ("alluvium-query", off, vec![]),
            ("alluvium-wal", off, vec!["remove `doctest = false`"]),
            ("alluvium-wal", "", vec![]),
        ] {
            let manifest = with(name, lib);
            assert_caught(check, &[library, ("crates/a/Cargo.toml", &manifest)], &expected);
        }
    }
}
