//! Where the records of a log are: enough of docs/formats/wal.md to aim at one.
//!
//! Must not judge a log: it reads until something is no record. Invariant: a place that is returned lies within a
//! whole record of the segment's own life.

/// Where records begin.
const FIRST: usize = 4_096;
const HEADER: usize = 128;
const ALIGN: usize = 64;
const MAGIC: &[u8; 4] = b"ALVR";

/// What a record is to Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    Vote,
    Rest,
}

/// A record of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) index: u64,
    /// Where its header and its payload begin, and how long the payload is.
    pub(super) header: usize,
    pub(super) payload: usize,
    pub(super) payload_len: usize,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Returns the records of a segment, in order.
pub(super) fn records(segment: &[u8]) -> Vec<Record> {
    let mut found: Vec<Record> = Vec::new();
    let (mut at, mut life) = (FIRST, None);
    while let Some(record) = record(segment, at) {
        let own = number::<8>(segment, at + 32);
        if *life.get_or_insert(own) != own {
            break;
        }
        at = (record.payload + record.payload_len).next_multiple_of(ALIGN);
        found.push(record);
    }
    found
}

/// Whether a segment still has every record that it had: more may have come behind them.
pub(super) fn keeps(before: &[u8], now: &[u8]) -> bool {
    let last = records(before).pop();
    let end = last.map_or(FIRST, |record| record.payload + record.payload_len);
    let written = |segment: &[u8]| segment.get(..end.min(before.len())).map(<[u8]>::to_vec);
    written(before) == written(now)
}

fn record(segment: &[u8], at: usize) -> Option<Record> {
    if number::<4>(segment, at)? != *MAGIC {
        return None;
    }
    let payload_len = usize::try_from(u32::from_le_bytes(number(segment, at + 12)?)).ok()?;
    let index = u64::from_le_bytes(number(segment, at + 48)?);
    let slot = u16::from_le_bytes(number(segment, at + 56)?);
    let kind = match (segment.get(at + 6)?, slot) {
        (1, _) => Kind::Entry,
        (4, 0) => Kind::Vote,
        _ => Kind::Rest,
    };
    let payload = at + HEADER;
    segment.get(payload..payload.checked_add(payload_len)?)?;
    Some(Record { kind, index, header: at, payload, payload_len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(segment: &mut Vec<u8>, kind: u8, life: u8, index: u64, payload: &[u8]) {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(MAGIC);
        header[6] = kind;
        header[12..16].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        header[32] = life;
        header[48..56].copy_from_slice(&index.to_le_bytes());
        segment.extend_from_slice(&header);
        segment.extend_from_slice(payload);
        segment.resize(segment.len().next_multiple_of(ALIGN), 0);
    }

    #[test]
    fn records_are_found_up_to_the_first_that_is_none_of_this_life() {
        let mut segment = vec![0; FIRST];
        put(&mut segment, 4, 7, 0, b"vote");
        put(&mut segment, 1, 7, 1, &[9; 100]);
        put(&mut segment, 2, 7, 1, b"");
        put(&mut segment, 1, 6, 2, b"stale");
        let kinds: Vec<_> = records(&segment).iter().map(|one| (one.kind, one.index)).collect();
        assert_eq!(kinds, [(Kind::Vote, 0), (Kind::Entry, 1), (Kind::Rest, 1)]);
        assert_eq!(records(&segment)[1].payload, FIRST + 192 + 128);
        let mut longer = segment.clone();
        put(&mut longer, 1, 7, 2, b"more");
        assert!(keeps(&segment, &longer));
        let mut cut = segment.clone();
        cut[FIRST + 192..].fill(0);
        assert!(!keeps(&segment, &cut) && !keeps(&segment, &segment[..FIRST]));
        segment.truncate(FIRST + 192 + 200);
        assert_eq!(records(&segment).len(), 1, "a record that is cut is none");
        assert!(records(b"").is_empty());
    }
}
