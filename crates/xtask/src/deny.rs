//! Holds `.cargo/deny.toml` without a tool to install: licenses, banned crates, second versions, sources.
//!
//! It must not pass over a line of the policy that it does not know: such a line is an error. Advisories need
//! the network, and are left to cargo-deny. Invariant: what passes here, cargo-deny passes for this machine's
//! target.

use crate::child;
use anyhow::{Context as _, Result, bail, ensure};

const POLICY: &str = ".cargo/deny.toml";
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every dependency of the workspace against the policy.
pub(crate) fn check() -> Result<()> {
    let root = child::root()?;
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))
    };
    let policy = Policy::parse(&read(POLICY)?)?;
    // Of this machine's target: the others need not be downloaded.
    let listed = child::output(&mut child::cargo(&[
        "tree",
        "--locked",
        "--workspace",
        "--edges=normal,build,dev",
        "--prefix=none",
        "--format={p}|{l}",
    ])?)?;
    let mut faults = policy.check_lock(&read("Cargo.lock")?);
    faults.extend(policy.check_licenses(&listed)?);
    faults.extend(wildcards(&read("Cargo.toml")?));
    faults.dedup();
    ensure!(faults.is_empty(), "{POLICY} is not kept:\n  {}", faults.join("\n  "));
    Ok(())
}

/// What `.cargo/deny.toml` says, as far as it is held here.
#[derive(Debug, Default, PartialEq)]
struct Policy {
    licenses: Vec<String>,
    banned: Vec<String>,
    single: Vec<String>,
}

impl Policy {
    fn parse(text: &str) -> Result<Self> {
        let mut policy = Self::default();
        let (mut table, mut list) = (String::new(), None::<String>);
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match (&list, line.split_once(" = ")) {
                (Some(_), _) if line == "]" => list = None,
                (Some(key), _) => policy.add(&table, key, line.trim_end_matches(','))?,
                (None, Some((key, "["))) => list = Some(key.to_owned()),
                (None, Some((key, value))) => policy.add(&table, key, value)?,
                (None, None) if line.starts_with('[') => {
                    line.trim_matches(['[', ']']).clone_into(&mut table);
                }
                (None, None) => bail!("{POLICY}: the line {line:?} is not understood"),
            }
        }
        ensure!(!policy.licenses.is_empty(), "{POLICY} allows no license");
        Ok(policy)
    }

    fn add(&mut self, table: &str, key: &str, value: &str) -> Result<()> {
        match (table, key) {
            ("licenses", "allow") => self.licenses.push(value.trim_matches('"').to_owned()),
            ("bans", "deny") => {
                let name = value.split('"').nth(1).with_context(|| format!("{POLICY}: {value}"))?;
                let is_single = value.contains("deny-multiple-versions = true");
                ensure!(value.starts_with("{ crate = "), "{POLICY}: {value:?} names no crate");
                let kind = if is_single { &mut self.single } else { &mut self.banned };
                kind.push(name.to_owned());
            }
            ("bans", "wildcards") | ("sources", "unknown-registry" | "unknown-git") => {
                ensure!(value == "\"deny\"", "{POLICY}: {key} = {value} is not held here");
            }
            // Warnings, and what only cargo-deny does.
            ("bans", "multiple-versions" | "allow-wildcard-paths")
            | ("licenses", "confidence-threshold")
            | ("advisories" | "graph", _) => {}
            _ => bail!("{POLICY}: {key:?} of [{table}] is not held here"),
        }
        Ok(())
    }

    /// Returns what is banned, twice or from elsewhere in the lock file, which has every target's dependencies.
    fn check_lock(&self, lock: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let packages: Vec<&str> = lock.split("[[package]]").skip(1).collect();
        let name_of = |package: &&str| field(package, "name").unwrap_or_default().to_owned();
        let names: Vec<String> = packages.iter().map(name_of).collect();
        for (name, package) in names.iter().zip(&packages) {
            if self.banned.contains(name) {
                faults.push(format!("{name} is banned"));
            }
            if let Some(source) = field(package, "source").filter(|source| *source != REGISTRY) {
                faults.push(format!("{name} comes from {source}"));
            }
        }
        for name in &self.single {
            let versions = names.iter().filter(|found| *found == name).count();
            if 1 < versions {
                faults.push(format!("{name} is there in {versions} versions"));
            }
        }
        faults
    }

    /// Returns each package of `cargo tree` whose license is not allowed.
    fn check_licenses(&self, listed: &str) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for line in listed.lines().filter(|line| !line.is_empty()) {
            let (package, license) =
                line.split_once('|').with_context(|| format!("cargo tree printed {line:?}"))?;
            let license = license.trim_end_matches(" (*)").trim();
            if !self.allows(license) {
                faults.push(format!("{package} has the license {license:?}"));
            }
        }
        ensure!(listed.contains('|'), "cargo tree printed no package");
        faults.sort();
        Ok(faults)
    }

    /// Says whether an SPDX expression can be fulfilled with what is allowed.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let allowed = self.any(&mut rest);
        allowed == Some(true) && rest.is_empty()
    }

    fn any(&self, words: &mut &[&str]) -> Option<bool> {
        let mut allowed = self.all(words)?;
        while let Some(("OR", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
            *words = rest;
            allowed |= self.all(words)?;
        }
        Some(allowed)
    }

    fn all(&self, words: &mut &[&str]) -> Option<bool> {
        let mut allowed = self.one(words)?;
        while let Some(("AND", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
            *words = rest;
            allowed &= self.one(words)?;
        }
        Some(allowed)
    }

    fn one(&self, words: &mut &[&str]) -> Option<bool> {
        let (first, rest) = words.split_first()?;
        *words = rest;
        if *first == "(" {
            let allowed = self.any(words)?;
            let (_, rest) = words.split_first().filter(|(closing, _)| **closing == ")")?;
            *words = rest;
            return Some(allowed);
        }
        let mut license = (*first).to_owned();
        if let ["WITH", exception, rest @ ..] = *words {
            license = format!("{license} WITH {exception}");
            *words = rest;
        }
        Some(self.licenses.contains(&license))
    }
}

fn field<'a>(package: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = package.lines().filter_map(|line| line.split_once(" = "));
    fields.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'))
}

/// Returns each line of the root manifest that takes any version of a crate.
fn wildcards(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().filter(|line| line.contains("= \"*\""));
    lines.map(|line| format!("any version will do: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{POLICY, Policy, wildcards};

    fn committed() -> Policy {
        let path = crate::child::root().expect("a checkout").join(POLICY);
        Policy::parse(&std::fs::read_to_string(path).expect("readable")).expect("understood")
    }

    #[test]
    fn the_committed_policy_is_understood() {
        let policy = committed();
        assert!(policy.licenses.iter().any(|license| license == "Apache-2.0 WITH LLVM-exception"));
        assert!(policy.banned.iter().any(|name| name == "openssl-sys"));
        assert!(policy.single.iter().any(|name| name == "arrow-array"));
    }

    #[test]
    fn a_line_that_is_not_held_is_an_error() {
        let allow = "[licenses]\nallow = [\n  \"MIT\",\n]\n";
        assert_eq!(Policy::parse(allow).expect("known").licenses, ["MIT"]);
        for unknown in [
            "[bans]\nskip = [\n  { crate = \"a\" },\n]\n",
            "[bans]\nwildcards = \"warn\"\n",
            "[sources]\nallow-git = [\n  \"x\",\n]\n",
            "[licenses.private]\nignore = true\n",
            "[bans]\nwhat\n",
        ] {
            Policy::parse(&format!("{allow}{unknown}")).expect_err(unknown);
        }
        Policy::parse("[graph]\n").expect_err("no license at all");
    }

    #[test]
    fn licenses_are_fulfilled_by_one_side_of_or_and_both_of_and() {
        let policy = Policy::parse("[licenses]\nallow = [\n\"MIT\",\n\"ISC\",\n\"A WITH B\",\n]\n");
        let policy = policy.expect("known");
        for allowed in [
            "MIT",
            "GPL-3.0 OR MIT",
            "GPL-3.0/MIT",
            "MIT AND ISC",
            "A WITH B",
            "(GPL-3.0 OR MIT) AND (ISC OR X)",
            "GPL-3.0 AND X OR MIT",
        ] {
            assert!(policy.allows(allowed), "{allowed}");
        }
        for refused in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "A",
            "MIT WITH B",
            "(MIT OR ISC) AND GPL-3.0",
            "MIT ISC",
            "MIT AND",
            "(MIT",
            "GPL-3.0 OR MIT AND X",
        ] {
            assert!(!policy.allows(refused), "{refused}");
        }
        let listed = "a v1.0.0|MIT\nb v2.0.0 (proc-macro)|GPL-3.0 (*)\n";
        let faults = policy.check_licenses(listed).expect("packages");
        assert_eq!(faults, ["b v2.0.0 (proc-macro) has the license \"GPL-3.0\""]);
    }

    #[test]
    fn a_banned_a_second_and_a_foreign_package_are_named() {
        let package = |name: &str, version: &str, source: &str| {
            let source = format!("registry+https://{source}");
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n"
            )
        };
        let ours = "github.com/rust-lang/crates.io-index";
        let lock = [
            package("tokio", "1.0.0", ours),
            package("tokio", "0.2.0", ours),
            package("openssl-sys", "0.9.0", ours),
            package("serde", "1.0.0", "elsewhere.example/index"),
            "[[package]]\nname = \"alluvium-types\"\nversion = \"0.0.0\"\n".to_owned(),
        ];
        let expected = [
            "openssl-sys is banned",
            "serde comes from registry+https://elsewhere.example/index",
            "tokio is there in 2 versions",
        ];
        assert_eq!(committed().check_lock(&lock.concat()), expected);
        assert_eq!(wildcards("a = \"1\"\nb = \"*\"\n"), ["any version will do: b = \"*\""]);
    }
}
