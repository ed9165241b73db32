//! The judgment over the end of the log: a torn tail is cut, damage is refused.
//! `docs/formats/wal.md` has the table.
//!
//! A bad record at position b is **damage** when b was acknowledged: the watermark is at or behind
//! it, or an intact header of this segment's life behind it says that b was synced before that
//! header was written. Else it is a **torn tail**. A later intact record alone proves nothing: one
//! vectored write reaches the disk in any order, so the end of an unsynced batch may survive its
//! beginning, and says itself that b was not synced.

use crate::error::Reason;
use crate::ids::Lsn;
use crate::record::{Defect, Header};

/// What is found behind the last good record of the log.
#[derive(Debug)]
pub(crate) struct Remains {
    /// The position that the bad record would have.
    pub(crate) lsn: Lsn,
    /// Why it is bad.
    pub(crate) reason: Reason,
    /// Intact headers behind it, with their places.
    pub(crate) headers: Vec<(u64, Header)>,
}

/// The judgment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log ends here, and nothing was begun behind it.
    Clean,
    /// A write was torn: nobody was told that it is durable.
    Torn,
    /// Durable bytes are damaged.
    Damaged(Reason),
}

/// Judges what was found, given the position up to which the watermark vouches.
pub(crate) fn judge(remains: &Remains, watermark: Lsn) -> Verdict {
    let bad = remains.lsn;
    if bad <= watermark {
        let nothing = matches!(
            remains.reason,
            Reason::StaleRecord | Reason::Record(Defect::NoMagic | Defect::OverEnd)
        );
        let reason = match nothing && remains.headers.is_empty() {
            true => Reason::EndsBeforeWatermark { watermark },
            false => remains.reason,
        };
        return Verdict::Damaged(reason);
    }
    let vouched = remains.headers.iter().any(|(_, header)| bad <= header.durable);
    if vouched {
        return Verdict::Damaged(remains.reason);
    }
    let begun = match remains.reason {
        Reason::Record(Defect::PayloadHash | Defect::Padding) => true,
        Reason::Record(
            Defect::NoMagic
            | Defect::HeaderChecksum
            | Defect::NewerVersion(_)
            | Defect::UnknownField
            | Defect::OverEnd,
        )
        | Reason::Header(_)
        | Reason::Truncated { .. }
        | Reason::WrongSegment { .. }
        | Reason::WrongRecord { .. }
        | Reason::StaleRecord
        | Reason::ChainBroken
        | Reason::WatermarkMismatch
        | Reason::EndsBeforeWatermark { .. }
        | Reason::Sequence => !remains.headers.is_empty(),
    };
    if begun { Verdict::Torn } else { Verdict::Clean }
}

#[cfg(test)]
mod tests;
