//! Files as others see them: the same bytes from every process, and the same rows in every reader.

mod damage;
mod determinism;
mod interop;
mod rowhash;
mod rows;
mod schema;
