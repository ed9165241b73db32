//! Opens a log with arbitrary edits in its segment.
#![no_main]

libfuzzer_sys::fuzz_target!(|edits: &[u8]| {
    std::hint::black_box(alluvium_wal::fuzz::recover(edits));
});
