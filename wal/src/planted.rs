//! Bugs that are planted to prove that they are found: by the model test, and, in a build that has the feature, by the
//! harness. No other build can.

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

#[cfg(not(test))]
impl Planted {
    /// Says whether this build has the bug and the environment names it.
    pub(crate) fn is_awake(self) -> bool {
        match self {
            #[cfg(feature = "plant-ack-before-fsync")]
            Self::AckBeforeSync => alluvium_stdx::plant::is_awake("ack-before-fsync"),
            #[cfg(feature = "plant-truncate-at-first-bad-checksum")]
            Self::CutAtFirstBad => alluvium_stdx::plant::is_awake("truncate-at-first-bad-checksum"),
            #[cfg(feature = "plant-retry-failed-fsync")]
            Self::RetrySync => alluvium_stdx::plant::is_awake("retry-failed-fsync"),
            #[cfg(not(feature = "plant-ack-before-fsync"))]
            Self::AckBeforeSync => false,
            #[cfg(not(feature = "plant-truncate-at-first-bad-checksum"))]
            Self::CutAtFirstBad => false,
            #[cfg(not(feature = "plant-retry-failed-fsync"))]
            Self::RetrySync => false,
            Self::SkipDirectorySync | Self::SkipChain => false,
        }
    }
}
