//! Decodes arbitrary bytes as each of the log's formats: no panic, and what decodes is what we
//! would have written.
#![no_main]

use alluvium_wal::record;
use alluvium_wal::segment::SegmentHeader;
use alluvium_wal::watermark::{SlotContent, Watermark};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, payload)) = record::decode(bytes) {
        let mut again = header.encode().to_vec();
        again.extend_from_slice(payload);
        again.resize(header.record_bytes() as usize, 0);
        assert_eq!(again, bytes[..again.len()]);
    }
    if let Some(bytes) = bytes.first_chunk() {
        if let Ok(header) = SegmentHeader::decode(bytes) {
            assert_eq!(header.encode(), *bytes);
        }
        if let SlotContent::Valid(watermark) = Watermark::decode(bytes) {
            assert_eq!(watermark.encode(), *bytes);
        }
    }
});
