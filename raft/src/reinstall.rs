//! Replacing the state of a node that does not run by a snapshot of another one.
//!
//! The log stays as it is: what was acknowledged from it still counts. It must not open the metadata store. Invariant: at
//! every moment the directory has a snapshot that is whole, or the one that it had.

use std::path::Path;

use alluvium_state_machine::SnapshotMeta;
use alluvium_state_machine::record::RaftRecord;
use alluvium_stdx::durable;

use crate::encoding::decode_kept_membership;
use crate::error::{Fault, LeaderHint};
use crate::snapshots::{SUFFIX, file_fault, list, name_of, verify};
use crate::type_config::Address;

/// Makes the snapshot at `received` the only one of the directory `dir`; those that are there are moved into `aside`.
/// The next start restores the state from it and applies the log behind it.
///
/// # Errors
/// [`Fault::SnapshotFile`], or what is wrong with the snapshot that was received; then nothing was changed.
pub fn replace_snapshots(dir: &Path, received: &Path, aside: &Path) -> Result<SnapshotMeta, Fault> {
    let meta = verify(received)?;
    durable::create_dir_all(aside).map_err(|source| file_fault(aside, source))?;
    let name = name_of(&meta);
    let mut others = list(dir)?;
    others.retain(|other| other.ends_with(SUFFIX));
    let set_aside = |other: &str| {
        let path = dir.join(other);
        durable::rename(&path, &aside.join(other)).map_err(|source| file_fault(&path, source))
    };
    if others.contains(&name) {
        set_aside(&name)?;
    }
    let path = dir.join(&name);
    durable::rename(received, &path).map_err(|source| file_fault(received, source))?;
    others.iter().filter(|other| **other != name).try_for_each(|other| set_aside(other))?;
    Ok(meta)
}

/// Returns the members of the cluster that a state belongs to.
///
/// # Errors
/// [`Fault::StoredMembership`].
pub fn members_of(raft: &RaftRecord) -> Result<Vec<LeaderHint>, Fault> {
    let kept = decode_kept_membership(&raft.membership)
        .map_err(|source| Fault::StoredMembership { source })?;
    let member =
        |(&node, address): (&u64, &Address)| LeaderHint { node, address: address.peer.clone() };
    Ok(kept.stored.membership().nodes().map(member).collect())
}
