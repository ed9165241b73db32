//! The faults by name: every family and mode of the fault matrix.
//!
//! A name is `family/mode` and is kept: reports and command lines of old runs say it. Must not say how a fault is
//! done. Invariant: [`Mode::ALL`] has every mode once, and each name reads back as its mode.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

macro_rules! modes {
    ($($family:ident $family_name:literal { $($mode:ident $name:literal),+ $(,)? })+) => {
        /// Faults of one kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Family { $($family),+ }

        /// One way of doing a fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names say it; docs/TESTING.md says what each does")]
        pub enum Mode { $($($mode),+),+ }

        impl Family {
            /// Every family, in the order of the fault matrix.
            pub const ALL: &'static [Self] = &[$(Self::$family),+];

            /// Returns its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$family => $family_name),+ }
            }

            /// Returns its modes.
            #[must_use]
            pub const fn modes(self) -> &'static [Mode] {
                match self { $(Self::$family => &[$(Mode::$mode),+]),+ }
            }
        }

        impl Mode {
            /// Every mode, family by family.
            pub const ALL: &'static [Self] = &[$($(Self::$mode),+),+];

            /// Returns the family that it belongs to.
            #[must_use]
            pub const fn family(self) -> Family {
                match self { $($(Self::$mode)|+ => Family::$family),+ }
            }

            /// Returns its name as `family/mode`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$mode => concat!($family_name, "/", $name)),+),+ }
            }
        }
    };
}

modes! {
    Kill "kill" {
        KillLeader "leader", KillFollower "follower", KillQuorum "quorum", KillAll "all",
    }
    Pause "pause" { PauseLeader "leader", PauseFollower "follower" }
    Partition "partition" {
        PartitionLeaderMajority "leader-majority", PartitionLeaderMinority "leader-minority",
        PartitionBridge "bridge", PartitionOnewayIn "oneway-in", PartitionOnewayOut "oneway-out",
        PartitionRing "ring",
    }
    Wire "wire" {
        WireLoss "loss", WireDupReorder "dup-reorder", WireSlow "slow", WireCorrupt "corrupt",
        WireReset "reset",
    }
    Powercut "powercut" { PowercutOne "one", PowercutQuorum "quorum", PowercutAll "all" }
    Bitflip "bitflip" {
        BitflipWalMid "wal-mid", BitflipWalTail "wal-tail", BitflipVote "vote",
        BitflipSnapshot "snapshot", BitflipSst "sst", BitflipDataFile "data-file",
    }
    FsyncFail "fsync-fail" {
        FsyncFailLeader "leader", FsyncFailFollower "follower", FsyncFailData "data",
    }
    FsyncLie "fsync-lie" { FsyncLieLeader "leader", FsyncLieFollower "follower" }
    Eio "eio" {
        EioWriteLog "write-log", EioReadLog "read-log", EioWriteData "write-data",
        EioReadData "read-data", EioWriteMeta "write-meta",
    }
    Strace "strace" {
        StraceSyncError "sync-error", StraceSyncLie "sync-lie", StraceSyncDelay "sync-delay",
        StraceWriteError "write-error", StraceWriteKill "write-kill",
    }
    Device "device" {
        DeviceWriteError "write-error", DeviceTornPowercut "torn-powercut",
        DeviceTornPowercutAll "torn-powercut-all", DeviceReadError "read-error",
        DeviceStall "stall",
    }
    Enospc "enospc" { EnospcWal "wal", EnospcData "data" }
    Slowdisk "slowdisk" { SlowdiskLeader "leader", SlowdiskFollower "follower" }
    Clock "clock" {
        ClockJump "jump", ClockRate "rate", ClockMonotonicJump "monotonic-jump",
        ClockMonotonicRate "monotonic-rate",
    }
    Membership "membership" {
        MembershipGrow "grow", MembershipShrink "shrink", MembershipReplace "replace",
        MembershipLeaderOut "leader-out",
    }
    Upgrade "upgrade" { UpgradeRoll "roll", UpgradeRollback "rollback" }
    Objstore "objstore" {
        ObjstoreErrors "errors", ObjstoreLost "lost-response", ObjstoreSlow "slow",
        ObjstoreAway "away", ObjstoreDamage "damage",
    }
    Resource "resource" { ResourceCpu "cpu", ResourceMem "mem" }
}

impl Mode {
    /// Whether it needs a world whose disks are [served](crate::Disks::Served).
    #[must_use]
    pub const fn needs_served_disks(self) -> bool {
        matches!(
            self,
            Self::DeviceTornPowercut
                | Self::DeviceTornPowercutAll
                | Self::DeviceReadError
                | Self::DeviceStall
        )
    }

    /// Reads a list such as `kill,pause/leader` or `all`: names of families and modes with commas between.
    ///
    /// # Errors
    /// [`Error::NoSuchMode`] for a name that is neither.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, Error> {
        let mut modes = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let family = Family::ALL.iter().find(|family| family.name() == name);
            match (name, family) {
                ("all", _) => modes.extend_from_slice(Self::ALL),
                (_, Some(family)) => modes.extend_from_slice(family.modes()),
                (_, None) => modes.push(name.parse()?),
            }
        }
        modes.sort_unstable();
        modes.dedup();
        Ok(modes)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|mode| mode.name() == name);
        found.copied().ok_or_else(|| Error::NoSuchMode { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, Mode};

    #[test]
    fn a_name_reads_back_as_its_mode() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse::<Mode>().unwrap(), *mode);
            assert!(mode.family().modes().contains(mode), "{mode}");
        }
        assert_eq!((Family::ALL.len(), Mode::ALL.len()), (18, 67));
    }

    #[test]
    fn only_modes_of_devices_need_served_disks_and_a_failing_write_needs_none() {
        let needs = |mode: &&Mode| mode.needs_served_disks();
        let others = Mode::ALL.iter().filter(|mode| mode.family() != Family::Device);
        assert_eq!(others.filter(needs).count(), 0);
        let own = Family::Device.modes().iter().filter(|mode| !mode.needs_served_disks());
        assert_eq!(own.collect::<Vec<_>>(), [&Mode::DeviceWriteError]);
    }

    #[test]
    fn a_list_names_families_and_modes_once_each() {
        let check = |list: &str, expected: &[Mode]| {
            assert_eq!(Mode::parse_list(list).unwrap(), expected, "{list}");
        };
        check("", &[]);
        check("pause", &[Mode::PauseLeader, Mode::PauseFollower]);
        check("pause/leader, pause", &[Mode::PauseLeader, Mode::PauseFollower]);
        check("all,kill", Mode::ALL);
        let refused = Mode::parse_list("kill/nobody").unwrap_err().to_string();
        assert_eq!(refused, "no fault is called `kill/nobody`");
    }
}
