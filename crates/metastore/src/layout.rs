//! Stored keys: table byte, escaped key, terminator, inverted version. See
//! `docs/formats/metadata.md`.
//!
//! It must not depend on what a table holds. Invariant: stored keys sort by table, then key, then
//! version from the newest; all versions of a key are neighbours, and no key's versions lie among
//! another's.

use alluvium_state_machine::{Key, Table, VersionKey};
use alluvium_types::LogIndex;

/// The first byte of keys that belong to no table.
const META: u8 = 0;
/// The key of the format's number.
pub(crate) const META_FORMAT: &[u8] = &[META, b'f'];
/// The key of applied entry, membership and digest.
pub(crate) const META_STATE: &[u8] = &[META, b's'];
/// Where tables begin.
pub(crate) const TABLES_START: &[u8] = &[1];
/// Where tables end.
pub(crate) const TABLES_END: &[u8] = &[0xff];

const ESCAPE: u8 = 0xff;
// Below the escape: a key sorts before every longer key that starts with it.
const TERMINATOR: [u8; 2] = [0x00, 0x01];
const VERSION_BYTES: usize = 8;

/// Returns the stored key of a version.
pub(crate) fn version_key(table: Table, key: &Key, version: LogIndex) -> Vec<u8> {
    let mut out = key_prefix(table, key);
    out.extend_from_slice(&(!version.0).to_be_bytes());
    out
}

/// Returns what the stored keys of all versions of a key start with, and of no other.
pub(crate) fn key_prefix(table: Table, key: &Key) -> Vec<u8> {
    let mut out = scan_prefix(table, key);
    out.extend_from_slice(&TERMINATOR);
    out
}

/// Returns what the stored keys of all keys with a prefix start with.
pub(crate) fn scan_prefix(table: Table, prefix: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + prefix.0.len() + TERMINATOR.len() + VERSION_BYTES);
    out.push(table.byte());
    for &byte in &prefix.0 {
        out.push(byte);
        if byte == 0 {
            out.push(ESCAPE);
        }
    }
    out
}

/// Returns the first stored key above all that start with a prefix.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff);
    let last = last.expect("the table's byte is below 0xff");
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

/// Reads a stored key back; none if it is not one.
pub(crate) fn parse(stored: &[u8]) -> Option<VersionKey> {
    let (&table, rest) = stored.split_first()?;
    let table = Table::from_byte(table)?;
    let (escaped, version) = rest.split_at_checked(rest.len().checked_sub(VERSION_BYTES)?)?;
    let escaped = escaped.strip_suffix(&TERMINATOR)?;
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte == 0 && bytes.next() != Some(&ESCAPE) {
            return None;
        }
        key.push(byte);
    }
    let version = LogIndex(!u64::from_be_bytes(version.try_into().ok()?));
    Some(VersionKey { table, key: Key(key), version })
}

/// Returns the stored value of a version; none is a deletion marker.
pub(crate) fn stored_value(value: Option<&[u8]>) -> Vec<u8> {
    let Some(value) = value else { return vec![0] };
    let mut out = Vec::with_capacity(1 + value.len());
    out.push(1);
    out.extend_from_slice(value);
    out
}

/// Reads a stored value back; the outer none if it is not one.
pub(crate) fn parse_value(stored: &[u8]) -> Option<Option<&[u8]>> {
    match stored.split_first()? {
        (1, value) => Some(Some(value)),
        (0, []) => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Key {
        Key(bytes.to_vec())
    }

    #[test]
    fn versions_of_a_key_are_neighbours_whatever_the_keys_look_like() {
        let keys: &[&[u8]] =
            &[b"", b"\0", b"\0\0", b"\0\x01", b"\0\xff", b"a", b"a\0", b"a\0\x01", b"a\x01", b"ab"];
        let mut stored = Vec::new();
        for bytes in keys {
            for version in [0, 1, 255, 256, u64::MAX] {
                stored.push(version_key(Table::Name, &key(bytes), LogIndex(version)));
            }
        }
        let mut expect = keys.to_vec();
        expect.sort_unstable();
        stored.sort();
        let parsed: Vec<_> = stored.iter().map(|stored| parse(stored).expect("a key")).collect();
        let order: Vec<_> = parsed.chunks(5).map(|versions| versions[0].key.0.as_slice()).collect();
        assert_eq!(order, expect);
        for versions in parsed.chunks(5) {
            assert!(versions.iter().all(|one| one.key == versions[0].key));
            let numbers: Vec<_> = versions.iter().map(|one| one.version.0).collect();
            assert_eq!(numbers, [u64::MAX, 256, 255, 1, 0], "newest first");
        }
    }

    #[test]
    fn a_prefix_holds_exactly_its_keys() {
        for (prefix, bytes, inside) in [
            (&b"a"[..], &b"a"[..], true),
            (b"a", b"ab", true),
            (b"a", b"b", false),
            (b"a\0", b"a", false),
            (b"a\0", b"a\0b", true),
            (b"a\xff", b"a\xff\xff", true),
            (b"a\xff", b"b", false),
        ] {
            let start = scan_prefix(Table::Name, &key(prefix));
            let stored = version_key(Table::Name, &key(bytes), LogIndex(7));
            let found = start <= stored && stored < end_of(&start);
            assert_eq!(found, inside, "{bytes:?} in {prefix:?}");
        }
    }

    #[test]
    fn the_stored_form_is_pinned() {
        let stored = version_key(Table::Name, &key(b"a\0b"), LogIndex(1));
        assert_eq!(stored, b"\x07a\0\xffb\0\x01\xff\xff\xff\xff\xff\xff\xff\xfe");
        assert_eq!(parse(&stored[..stored.len() - 1]), None);
        assert_eq!(parse_value(&stored_value(Some(b"v"))), Some(Some(&b"v"[..])));
        assert_eq!(parse_value(&stored_value(None)), Some(None));
        assert_eq!(parse_value(b"\0v"), None);
        assert_eq!(parse_value(b""), None);
    }
}
