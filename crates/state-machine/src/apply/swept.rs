//! Swept: the objects of files that nothing refers to are gone.

use alluvium_types::{FileFault, LogIndex, Outcome, Rejection, Swept, limits};

use crate::{Key, Table, catalog};

use super::draft::{Draft, Stop};

pub(super) fn apply(draft: &mut Draft<'_>, command: &Swept) -> Result<Outcome, Stop> {
    let dataset = command.dataset;
    // A dropped dataset too: its files are swept after it ended.
    if catalog::dataset(draft.view(), dataset, LogIndex::MAX)?.is_none() {
        return Err(Rejection::DatasetNotFound { dataset }.into());
    }
    if command.files.len() > limits::SWEPT_FILES_MAX {
        return Err(draft.illegal("it names more than 4,096 files"));
    }
    for &file in &command.files {
        let key = Key::file(dataset, file);
        if draft.view().get(Table::Sweep, &key)?.is_none() {
            return Err(Rejection::File { file, reason: FileFault::NotSweepable }.into());
        }
        draft.delete(Table::Sweep, key);
    }
    Ok(Outcome::Swept { files: command.files.len() as u64 })
}
