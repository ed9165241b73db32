//! The protocols of `alluvium.v1.Lake`, which clients speak, and of `alluvium.peer.v1.Peer`, which nodes speak among
//! themselves: messages, clients, server traits, and the descriptors of the first for reflection.
//!
//! Everything in `generated` comes from the files in `proto` by `cargo xtask codegen` and is committed, so that an
//! ordinary build needs no protobuf compiler.
//!
//! Does not: convert to our own types (`alluvium-messages` does), or know of errors.

/// Version 1 of what clients speak.
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

/// Version 1 of what nodes speak among themselves.
pub mod peer {
    #[expect(
        missing_docs,
        clippy::all,
        clippy::clone_on_ref_ptr,
        clippy::too_many_lines,
        unused_qualifications,
        reason = "generated code has the generator's style"
    )]
    pub mod v1 {
        include!("generated/alluvium.peer.v1.rs");
    }
}

/// The encoded file descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/alluvium.v1.bin");
