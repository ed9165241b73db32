//! Verify: recompute what the node believes, from what is stored. Changes nothing.

use std::sync::Arc;

use alluvium_state_machine::{MetaStore, catalog};
use alluvium_types::{LogIndex, Rejection};

use crate::jobs::error_chain;
use crate::node::Node;
use crate::scrub;
use crate::tasks::blocking;
use crate::{Error, VerifyReport};

/// How often the digest is recomputed when entries are applied meanwhile.
const DIGEST_TRIES_MAX: u32 = 8;

impl Node {
    /// Recomputes the state digest from every stored key and value, reads every log entry, and reads every
    /// data file whole, comparing hashes and row sums with what was attested.
    ///
    /// # Errors
    /// Only when it could not look; damage that it found is in the report.
    pub async fn verify(&self) -> Result<VerifyReport, Error> {
        let mut report = VerifyReport::default();
        // Nothing that is read below may be deleted meanwhile.
        let _lease = self.lease(self.applied());
        self.verify_digest(&mut report).await?;
        self.verify_log(&mut report).await?;
        let reader = self.log_reader().clone();
        let damage = blocking(move || scrub::log_damage(&reader, &mut scrub::unpaced)).await?;
        report.damage.extend(damage);
        for record in catalog::list(self.view(), report.index)? {
            let context = match self.file_context(record.dataset) {
                // Dropped since.
                Err(Error::Rejected(Rejection::DatasetNotFound { .. })) => continue,
                context => context?,
            };
            let found = alluvium_materialize::verify_dataset(&context, report.index).await?;
            report.files += found.files;
            report.rows += found.rows;
            let name = &record.name;
            report
                .damage
                .extend(found.damage.iter().map(|what| format!("{name}: {}", error_chain(what))));
        }
        Ok(report)
    }

    async fn verify_digest(&self, report: &mut VerifyReport) -> Result<(), Error> {
        for _ in 0..DIGEST_TRIES_MAX {
            let before = *self.raft().applied().borrow();
            let store = Arc::clone(self.store());
            let recomputed = blocking(move || store.recompute_digest()).await?;
            if self.raft().applied().borrow().index != before.index {
                // Entries were applied while the store was read: the two belong to other states.
                continue;
            }
            report.index = before.index;
            report.digest_kept = before.digest.to_string();
            report.digest_recomputed = recomputed.to_string();
            if recomputed != before.digest {
                report.damage.push(format!(
                    "metadata: its digest is {recomputed}, entries up to {} made {}",
                    before.index, before.digest
                ));
            }
            return Ok(());
        }
        Err(Error::Contended { tries: DIGEST_TRIES_MAX })
    }

    async fn verify_log(&self, report: &mut VerifyReport) -> Result<(), Error> {
        let bounds = self.raft().log_bounds()?;
        let Some(first) = bounds.first else { return Ok(()) };
        for index in first.0..=bounds.committed.0 {
            let raft = self.raft().clone();
            let read = blocking(move || raft.log_entry(LogIndex(index))).await;
            let decoded = read
                .map_err(Error::from)
                .and_then(|entry| crate::log::decode(LogIndex(index), &entry));
            if let Err(Error::Raft(alluvium_raft::Error::NotInLog { .. })) = decoded {
                // Purged since the bounds were read.
                continue;
            }
            report.entries += 1;
            if let Err(error) = decoded {
                report.damage.push(format!("log entry {index}: {}", error_chain(&error)));
            }
        }
        Ok(())
    }
}
