//! The protocol of `alluvium.v1.Lake`: messages, client, server trait, and the descriptors for reflection.
//!
//! Everything in `generated` comes from `proto/alluvium/v1/lake.proto` by `cargo xtask codegen` and is
//! committed, so that an ordinary build needs no protobuf compiler.
//!
//! Does not: convert to our own types (the server and the client do), or know of errors.

/// Version 1 of the protocol.
#[expect(
    missing_docs,
    clippy::all,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code has the generator's style"
)]
pub mod v1 {
    include!("generated/alluvium.v1.rs");
}

/// The encoded file descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/alluvium.v1.bin");
