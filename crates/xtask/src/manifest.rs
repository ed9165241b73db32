//! Reads as much of a `Cargo.toml` as the checks need: tables, keys, and the dependencies of a member.
//!
//! The manifests are read rather than `cargo metadata`, because the rule is about the lines as written:
//! a member may only say `x.workspace = true`, so the key is the package, and reading takes no second.
//! It must not guess: a dependency in a shape that it does not know is reported, never skipped.

use crate::source::numbered;

/// A `Cargo.toml`, line by line.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) path: String,
    pub(crate) entries: Vec<Entry>,
}

/// One `key = value` line and the table it stands in.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// One dependency of a member.
#[derive(Debug)]
pub(crate) struct Dependency<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    /// Says `workspace = true` and nothing of its own but `optional`.
    pub(crate) is_inherited: bool,
}

impl Manifest {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut table = String::new();
        let mut entries = Vec::new();
        for (line, content) in numbered(text) {
            let content = content.trim();
            if content.starts_with('#') {
                continue;
            }
            if let Some(header) = content.strip_prefix('[') {
                header.trim_end_matches(']').trim_start_matches('[').clone_into(&mut table);
                continue;
            }
            if let Some((key, value)) = content.split_once('=') {
                let key = key.trim().trim_matches('"').to_owned();
                let value = value.trim().to_owned();
                entries.push(Entry { table: table.clone(), key, value, line });
            }
        }
        Self { path: path.to_owned(), entries }
    }

    /// The value of `key` in `table`, without quotes.
    pub(crate) fn get(&self, table: &str, key: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|e| e.table == table && e.key == key)?;
        Some(entry.value.trim_matches('"'))
    }

    pub(crate) fn package(&self) -> Option<&str> {
        self.get("package", "name")
    }

    /// Whether this is the root, where versions and features are named.
    pub(crate) fn is_workspace_root(&self) -> bool {
        self.entries.iter().any(|entry| entry.table == "workspace.dependencies")
    }

    /// Whether this manifest opens a workspace of its own, outside ours.
    pub(crate) fn is_outside_workspace(&self, text: &str) -> bool {
        !self.is_workspace_root() && text.lines().any(|line| line.trim() == "[workspace]")
    }

    /// Every dependency of any kind: normal, dev, build, target-specific.
    pub(crate) fn dependencies(&self) -> Vec<Dependency<'_>> {
        let mut found = Vec::new();
        for entry in &self.entries {
            let Some(after) = dependency_table(&entry.table) else { continue };
            if !after.is_empty() {
                // `[dependencies.x]`: several lines, one dependency; reported once, at its first line.
                if found.last().is_none_or(|last: &Dependency<'_>| last.name != after) {
                    found.push(Dependency { name: after, line: entry.line, is_inherited: false });
                }
                continue;
            }
            let (name, is_inherited) = match entry.key.split_once('.') {
                Some((name, "workspace")) => (name, entry.value == "true"),
                Some((name, _)) => (name, false),
                None => (entry.key.as_str(), is_inherited_table(&entry.value)),
            };
            found.push(Dependency { name, line: entry.line, is_inherited });
        }
        found
    }
}

/// Returns what follows `dependencies` in a table name: nothing, or the dependency's own name.
fn dependency_table(table: &str) -> Option<&str> {
    if table.starts_with("workspace.") {
        return None;
    }
    let (_, after) = table.rsplit_once("dependencies")?;
    Some(after.trim_start_matches('.'))
}

fn is_inherited_table(value: &str) -> bool {
    let inner = value.trim_start_matches('{').trim_end_matches('}');
    let mut parts = inner.split(',').map(|part| part.replace(' ', ""));
    let known = |part: &String| matches!(part.as_str(), "workspace=true" | "optional=true");
    value.starts_with('{') && inner.contains("workspace") && parts.all(|part| known(&part))
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    fn check(text: &str, expected: &[(&str, bool)]) {
        let manifest = Manifest::new("a/Cargo.toml", text);
        let seen: Vec<(&str, bool)> =
            manifest.dependencies().iter().map(|d| (d.name, d.is_inherited)).collect();
        assert_eq!(seen, expected, "dependencies of {text:?}");
    }

    #[test]
    fn every_shape_of_dependency_is_seen() {
        check("[dependencies]\na.workspace = true\n", &[("a", true)]);
        check("[dev-dependencies]\na = { workspace = true }\n", &[("a", true)]);
        check("[dependencies]\na = { workspace = true, optional = true }\n", &[("a", true)]);
        check("[dependencies]\na = { workspace = true, features = [\"x\"] }\n", &[("a", false)]);
        check("[build-dependencies]\na = \"1\"\n", &[("a", false)]);
        check("[dependencies.a]\nversion = \"1\"\noptional = true\n", &[("a", false)]);
        check("[target.'cfg(unix)'.dependencies]\nlibc.workspace = true\n", &[("libc", true)]);
        check("[package]\nname = \"x\"\n[features]\ny = []\n", &[]);
    }

    #[test]
    fn values_are_found_by_table_and_key() {
        let manifest =
            Manifest::new("a/Cargo.toml", "[package]\nname = \"x\"\n[lib]\nname = \"y\"\n");
        assert_eq!(manifest.package(), Some("x"));
        assert_eq!(manifest.get("lib", "name"), Some("y"));
        assert_eq!(manifest.get("lints", "workspace"), None);
    }
}
