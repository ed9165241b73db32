//! Decodes arbitrary bytes as each of the log's formats.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    std::hint::black_box(alluvium_wal::fuzz::decode(bytes));
});
