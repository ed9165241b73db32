//! The `alluvium` binary.
fn main() {}
