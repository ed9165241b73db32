//! Damage to the files of a log at rest, and what the log must say to it.

use alluvium_stdx::Prng;

use crate::record::{self, HEADER_LEN, Kind};
use crate::sim::SimDisk;

/// What must happen when the damaged log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// The log refuses to open, and changes nothing.
    Refused,
    /// The log opens as if nothing had happened.
    Opens,
}

/// Returns the places of the records of a segment: offset and length.
pub(crate) fn records(content: &[u8]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut offset = 4096;
    let mut lsn = None;
    while let Ok((header, _)) = record::decode(&content[offset.min(content.len())..]) {
        if lsn.is_some_and(|lsn: crate::Lsn| header.lsn != lsn.next()) {
            break;
        }
        lsn = Some(header.lsn);
        let len = usize::try_from(header.record_bytes()).expect("small");
        places.push((offset, len));
        offset += len;
    }
    places
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let names = disk.files().into_iter().map(|(name, _)| name);
    names.filter(|name| name.starts_with("segment-")).collect()
}

/// Damages one file whose log was closed with an up-to-date watermark. Returns what was done to
/// what.
pub(super) fn inflict(disk: &SimDisk, prng: &mut Prng) -> Option<(String, Expect)> {
    let names = segments(disk);
    let name = prng.pick(&names)?.clone();
    let content = disk.content(&name).expect("listed");
    // Damage aims at the log's own segments: what a purge left behind is nobody's loss.
    let places = records(&content);
    match prng.below(8) {
        0 => {
            let bit = prng.below(4096 * 8);
            disk.flip_bit(&name, bit);
            Some((format!("flip bit {bit} of the header of {name}"), Expect::Refused))
        }
        1 | 2 => flip_record(disk, prng, &name, &places),
        3 => forge(disk, prng, &name, &content, &places),
        4 => zero_records(disk, prng, &name, &content, &places),
        5 => {
            disk.erase(&name);
            Some((format!("erase {name}"), Expect::Refused))
        }
        6 => {
            let len = usize::try_from(prng.below(content.len() as u64)).expect("small");
            disk.put(&name, &content[..len]);
            Some((format!("cut {name} to {len} bytes"), Expect::Refused))
        }
        _ => {
            let bit = prng.below(8192 * 8);
            disk.flip_bit("watermark", bit);
            Some((format!("flip bit {bit} of the watermark"), Expect::Opens))
        }
    }
}

fn flip_record(
    disk: &SimDisk,
    prng: &mut Prng,
    name: &str,
    places: &[(usize, usize)],
) -> Option<(String, Expect)> {
    let &(offset, len) = prng.pick(places)?;
    let bit = (offset * 8) as u64 + prng.below((len * 8) as u64);
    disk.flip_bit(name, bit);
    Some((format!("flip bit {bit} of {name}, in the record at {offset}"), Expect::Refused))
}

/// Replaces an entry by another that is whole in itself: only the chain can tell.
fn forge(
    disk: &SimDisk,
    prng: &mut Prng,
    name: &str,
    content: &[u8],
    places: &[(usize, usize)],
) -> Option<(String, Expect)> {
    let &(offset, len) = prng.pick(places)?;
    let (mut header, payload) = record::decode(&content[offset..]).expect("found before");
    if header.kind != Kind::Entry || payload.is_empty() {
        return None;
    }
    let mut forged = content.to_vec();
    let payload = &mut forged[offset + HEADER_LEN..offset + HEADER_LEN + payload.len()];
    payload[0] ^= 0xff;
    header.payload_hash = record::payload_hash(payload);
    forged[offset..offset + HEADER_LEN].copy_from_slice(&header.encode());
    record::decode(&forged[offset..]).expect("whole in itself");
    disk.put(name, &forged);
    Some((format!("forge the record at {offset}, {len} bytes, of {name}"), Expect::Refused))
}

/// Zeroes records, from one to all behind it.
fn zero_records(
    disk: &SimDisk,
    prng: &mut Prng,
    name: &str,
    content: &[u8],
    places: &[(usize, usize)],
) -> Option<(String, Expect)> {
    let &(offset, len) = prng.pick(places)?;
    let end = if prng.one_in(2) { content.len() } else { offset + len };
    let mut zeroed = content.to_vec();
    zeroed[offset..end].fill(0);
    disk.put(name, &zeroed);
    Some((format!("zero {name} from {offset} to {end}"), Expect::Refused))
}
