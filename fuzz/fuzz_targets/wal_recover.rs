//! Opens a log with arbitrary edits in its segment: it opens or names the damage, and never panics.
//!
//! Edits come as (offset, byte) pairs. Checksums of the header that an edit hits are made right
//! again, so that the search reaches the rules behind them.
#![no_main]

use std::sync::Arc;

use alluvium_wal::record::{Header, payload_hash};
use alluvium_wal::segment::segment_name;
use alluvium_wal::sim::SimDisk;
use alluvium_wal::{Operation, Options, Owner, SegmentSeq, StreamId, Wal};
use libfuzzer_sys::fuzz_target;

const OWNER: Owner = Owner { cluster: 1, node: 1 };

fn options() -> Options {
    let mut options = Options::new(OWNER);
    options.segment_bytes = alluvium_wal::limits::SEGMENT_BYTES_MIN;
    options
}

fn build() -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options()).expect("a fresh log opens");
    for index in 1..=8 {
        let payload = vec![index as u8; 40].into();
        let append = Operation::Append { stream: StreamId(1), index, tag: 0, payload };
        wal.commit(vec![append]).expect("writes");
    }
    disk.kill();
    disk
}

fuzz_target!(|edits: &[u8]| {
    let disk = build();
    let name = segment_name(SegmentSeq(1));
    let mut content = disk.content(&name).expect("made");
    for edit in edits.chunks_exact(3).take(64) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]]));
        let at = 4096 + place % (content.len() - 4096);
        content[at] = edit[2];
        reseal(&mut content, at);
    }
    disk.put(&name, &content);
    if let Ok((wal, _)) = Wal::open(Arc::new(disk), options()) {
        wal.read(StreamId(1), 0..u64::MAX).expect("what opened is readable");
    }
});

/// Makes the checksum of the header around `at` right, and the hash of a short payload behind it.
fn reseal(content: &mut [u8], at: usize) {
    let start = (at / 64) * 64;
    for start in [start, start.saturating_sub(64)] {
        let Some(bytes) = content.get_mut(start..start + 192) else { continue };
        if !bytes.starts_with(b"ALVR") {
            continue;
        }
        let len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        if len <= 64 {
            let hash = payload_hash(&bytes[128..128 + len]).to_le_bytes();
            bytes[96..112].copy_from_slice(&hash);
        }
        let head: [u8; 128] = bytes[..128].try_into().expect("128 bytes");
        bytes[..128].copy_from_slice(&Header::reseal(&head));
    }
}
