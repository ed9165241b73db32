//! The checkout in memory: every Rust file, manifest and Markdown page, read once.
//!
//! It must not write. Invariant: paths are relative to the root, use `/`, and are sorted, so that every
//! report comes in the same order.

use crate::manifest::Manifest;
use crate::source::Source;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::Path;

const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", "dist"];

/// Everything the checks look at.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) sources: Vec<Source>,
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) pages: Vec<Page>,
    /// Every file and directory, for links.
    pub(crate) paths: BTreeSet<String>,
}

/// A Markdown page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Tree {
    /// Reads the checkout at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    fn read_directory(&mut self, root: &Path, inside: &str) -> Result<()> {
        let directory = root.join(inside);
        let context = || format!("read {}", directory.display());
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&directory).with_context(context)? {
            let entry = entry.with_context(context)?;
            let is_directory = entry.file_type().with_context(context)?.is_dir();
            entries.push((entry.file_name().to_string_lossy().into_owned(), is_directory));
        }
        entries.sort();
        for (name, is_directory) in entries {
            let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
            if !is_directory {
                self.read_file(root, &path)?;
            } else if !SKIPPED.contains(&name.as_str()) {
                self.paths.insert(path.clone());
                self.read_directory(root, &path)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, root: &Path, path: &str) -> Result<()> {
        let extension = path.rsplit('.').next().unwrap_or_default();
        if !matches!(extension, "rs" | "toml" | "md") {
            self.paths.insert(path.to_owned());
            return Ok(());
        }
        let text = std::fs::read_to_string(root.join(path));
        match text {
            Ok(text) => self.add(path, &text),
            // An editor or another build may remove a file between the listing and the read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        }
        Ok(())
    }

    fn add(&mut self, path: &str, text: &str) {
        self.paths.insert(path.to_owned());
        if path.ends_with(".rs") {
            self.sources.push(Source::new(path, text));
        } else if path.ends_with(".md") {
            self.pages.push(Page { path: path.to_owned(), text: text.to_owned() });
        } else if path.ends_with("Cargo.toml") {
            let manifest = Manifest::new(path, text);
            if !manifest.is_outside_workspace(text) {
                self.manifests.push(manifest);
            }
        }
    }

    pub(crate) fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    pub(crate) fn page(&self, path: &str) -> Option<&Page> {
        self.pages.iter().find(|page| page.path == path)
    }

    /// The manifests of members: all but the root's.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Manifest> {
        self.manifests.iter().filter(|manifest| manifest.package().is_some())
    }
}

#[cfg(test)]
impl Tree {
    /// A tree of the given files, for the tests of the checks.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, text);
            for (end, _) in path.match_indices('/') {
                tree.paths.insert(path.get(..end).expect("a boundary").to_owned());
            }
        }
        tree
    }
}
