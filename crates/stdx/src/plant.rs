//! Bugs that are built in on purpose, so that the harness can prove that it finds them.
//!
//! Each is behind a build feature of its crate, and sleeps until the environment names it: one build has many. It must not be
//! in a build of the product: the features are on in no default.

use std::sync::OnceLock;

/// The variable that names the bug.
pub const VARIABLE: &str = "ALLUVIUM_PLANT";

/// Says whether a bug is awake.
#[must_use]
pub fn is_awake(bug: &str) -> bool {
    static NAMED: OnceLock<Option<String>> = OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var(VARIABLE).ok());
    named.as_deref() == Some(bug)
}
