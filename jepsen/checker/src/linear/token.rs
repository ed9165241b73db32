//! Versions that the store gives out: higher each time, and unknown after an ambiguous write.
//!
//! It must not assume how much higher. Invariant: `floor` is a lower bound, and the version itself if it is
//! exact.

/// What is known of the version of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    floor: u64,
    is_exact: bool,
}

impl Token {
    pub(super) fn exactly(version: u64) -> Self {
        Self { floor: version, is_exact: true }
    }

    /// The version of an ambiguous write over this one: nobody was told it.
    pub(super) fn successor(self) -> Self {
        Self { floor: self.floor.saturating_add(1), is_exact: false }
    }

    /// The same, after it was found not to be `version`. Of a version above the floor this is forgotten, which
    /// at worst accepts a history that is wrong.
    pub(super) fn but_not(self, version: u64) -> Option<Self> {
        let is_excluded = self.is_surely(version);
        let floor = if self.floor == version { self.floor.saturating_add(1) } else { self.floor };
        let rest = if self.is_exact { self } else { Self { floor, ..self } };
        (!is_excluded).then_some(rest)
    }

    /// Whether it may be `version`.
    pub(super) fn admits(self, version: u64) -> bool {
        if self.is_exact { self.floor == version } else { self.floor <= version }
    }

    fn is_surely(self, version: u64) -> bool {
        self.is_exact && self.floor == version
    }

    /// Whether a write over this one may get `version`.
    pub(super) fn may_precede(self, version: u64) -> bool {
        self.floor < version
    }
}
