//! What is looked at when a run is over: directories, digests, logs.

use std::fs;

use super::{Digest, LogLine, NodeId, Scrub, World, log_lines};
use crate::error::Error;

impl World {
    /// Verifies the directory of every member that does not run, and what it knows to be in the shared bucket.
    ///
    /// # Errors
    /// Faults of the harness. Damage is a result.
    pub fn scrub_offline(&mut self) -> Result<Vec<Scrub>, Error> {
        let temporary = self.config.scratch.join("temporary").to_string_lossy().into_owned();
        let mut env = self.store_env();
        env.push(("TMPDIR".to_owned(), temporary));
        let bucket = self.store_words();
        let mut scrubs = Vec::new();
        for id in self.node_ids() {
            if self.node_mut(id).is_running() {
                continue;
            }
            let node = self.node(id);
            let verified = self.operator.verify(&node.disk.node_dir(), &bucket, &env)?;
            let names: Vec<String> = node
                .damaged
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                .collect();
            let is_explained = |line: &String| names.iter().any(|name| line.contains(name));
            scrubs.push(Scrub {
                node: id,
                is_clean: verified.is_clean,
                explained: !verified.is_clean && verified.damage.iter().all(is_explained),
                damage: verified.damage,
                notices: verified.notices,
            });
        }
        Ok(scrubs)
    }

    /// Returns the digest of each member that answers. They agree when those at the same index are equal.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn digests(&mut self) -> Result<Vec<Digest>, Error> {
        let statuses = self.statuses().into_iter();
        Ok(statuses
            .map(|(node, status)| Digest {
                node,
                applied: status.applied,
                digest: status.digest,
                job_errors: status.job_errors,
                damage: status.damage,
            })
            .collect())
    }

    /// Returns the lines at WARN and ERROR of all nodes that nothing explains: no fault that was installed so far, and
    /// no rule of the list in `log_lines`.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn unexpected_log_lines(&self) -> Result<Vec<LogLine>, Error> {
        let dir = self.config.scratch.join("logs");
        let entries = fs::read_dir(&dir).map_err(Error::io(format!("list {}", dir.display())))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        files.sort_unstable();
        let mut unexpected = Vec::new();
        for file in files {
            let bytes = fs::read(&file).map_err(Error::io(format!("read {}", file.display())))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let node = name.strip_prefix('n').and_then(|rest| rest.split('-').next()?.parse().ok());
            let Some(node) = node.map(NodeId) else { continue };
            for (line, text) in String::from_utf8_lossy(&bytes).lines().enumerate() {
                if log_lines::is_noteworthy(text)
                    && log_lines::explanation(text, &self.done).is_none()
                {
                    let (file, text) = (file.clone(), text.to_owned());
                    unexpected.push(LogLine { node, file, line: line + 1, text });
                }
            }
        }
        Ok(unexpected)
    }
}
