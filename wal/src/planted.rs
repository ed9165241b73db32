//! Bugs that the tests plant to prove that the model test would find them. No build but the tests'
//! can.

/// A bug from the catalogue of `docs/TESTING.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// X1: appends are acknowledged without a sync.
    AckBeforeSync,
    /// X2: the name of a new segment is not synced.
    SkipDirectorySync,
    /// X3: recovery cuts the log at the first bad record, whatever follows.
    CutAtFirstBad,
    /// X4: a failed sync is tried again.
    RetrySync,
    /// X18: the hash chain is not verified.
    SkipChain,
}
