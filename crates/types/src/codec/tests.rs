//! Golden bytes, and frames that lie.

use super::*;
use crate::{
    Command, DatasetId, DatasetKey, Incarnation, LogIndex, Seal, Sequence, SessionId, SessionRef,
};

fn envelope() -> Envelope {
    let dataset = DatasetKey { id: DatasetId([7; 16]), incarnation: Incarnation(3) };
    Envelope {
        session: Some(SessionRef { id: SessionId(9), sequence: Sequence(2) }),
        actor: "ada".to_owned(),
        proposed_at_ms: 1_700_000_000_000,
        expected_index: Some(LogIndex(41)),
        command: Command::Seal(Seal { dataset }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_an_entry_are_pinned() {
    let entry = Entry::command(&envelope(), b"body").expect("small");
    let golden = include_str!("../../../../tests/testdata/entry/seal-v1.hex").trim();
    assert_eq!(hex(entry.as_bytes()), golden);
}

#[test]
fn an_entry_reads_back_as_it_was_written() {
    let entry = Entry::command(&envelope(), b"body").expect("small");
    let parsed = Entry::parse(entry.as_bytes().clone()).expect("its own bytes");
    assert_eq!(parsed.envelope().expect("a command"), envelope());
    assert_eq!(parsed.body(), Bytes::from_static(b"body"));
    assert_eq!((parsed.as_bytes().len() - 4) % ALIGNMENT, 0);
}

#[test]
fn every_flipped_bit_is_found() {
    let good = Entry::command(&envelope(), b"body").expect("small").as_bytes().to_vec();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(Entry::parse(Bytes::from(bad)).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn every_cut_is_found() {
    let good = Entry::command(&envelope(), b"body").expect("small").as_bytes().clone();
    for length in 0..good.len() {
        assert!(Entry::parse(good.slice(..length)).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn an_entry_has_the_oldest_format_that_knows_its_command() {
    let version = |entry: Entry| u16::from_le_bytes([entry.as_bytes()[4], entry.as_bytes()[5]]);
    assert_eq!(version(Entry::blank()), 1);
    assert_eq!(version(Entry::command(&envelope(), b"").expect("small")), 1);
    let mut checkpoint = envelope();
    checkpoint.command = crate::Command::Checkpoint(crate::Checkpoint::Point);
    assert_eq!(version(Entry::command(&checkpoint, b"").expect("small")), 2);
}

#[test]
fn a_newer_format_is_named() {
    let mut bytes = Entry::blank().as_bytes().to_vec();
    bytes[4] = 3;
    let expect = Error::NewerFormat { found: 3, supported: 2 };
    assert_eq!(Entry::parse(Bytes::from(bytes)), Err(expect));
}

#[test]
fn a_body_over_the_limit_names_limit_and_length() {
    let body = vec![0; BODY_BYTES_MAX as usize + 1];
    let length = body.len() as u64;
    let expect = Error::TooLarge { part: "body", length, limit: u64::from(BODY_BYTES_MAX) };
    assert_eq!(Entry::command(&envelope(), &body), Err(expect));
}

#[test]
fn a_length_that_lies_inside_a_header_asks_for_no_memory() {
    // The actor's length says 2^60 bytes.
    let mut header = encode(&envelope()).expect("small");
    let actor_length_at = 1 + 8 + 8;
    header[actor_length_at..actor_length_at + 8].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let expect = Error::Frame { reason: "its header does not decode" };
    assert_eq!(decode::<Envelope>(&header), Err(expect));
}
