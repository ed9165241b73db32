//! The world: nodes, their network and disks, and the faults that are in place.
//!
//! One thread drives it; clients run beside it and need only addresses, which never change. Must not hide what a
//! node did: a node that does not come back is reported, not started again and again. Invariant: a process is
//! signalled only by the id that was recorded when it was started and before it was waited for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alluvium_stdx::SystemClock;

use crate::enter::Inside;
use crate::error::Error;
use crate::fault::{Healed, Installed};
use crate::mode::Mode;

/// A node's place in the world, from 1: its address, namespace, disk and control group. It stays when the node is
/// replaced by one with a new id in the cluster: [`World::member_id`] is that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// How many nodes the cluster begins with.
    pub nodes: u8,
    /// How many more places there are for nodes that join later.
    pub spares: u8,
    /// Decides every choice and every packet's fate.
    pub seed: u64,
    /// The product's program.
    pub binary: PathBuf,
    /// The program of the version before, for upgrades.
    pub previous: Option<PathBuf>,
    /// A directory for disks, logs and certificates. It is made, kept at the end, and must not hold another world.
    pub scratch: PathBuf,
    /// The size of each node's disk.
    pub disk_mib: u64,
    /// More variables for each node's environment.
    pub env: Vec<(String, String)>,
    /// The `--log-level` of each node.
    pub log_level: String,
    /// Whose time the records have: the clients' clock, so that both can be laid over each other.
    pub clock: Arc<SystemClock>,
}

/// A node that was replaced by the operator's procedure because it named damage or lost its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Where.
    pub node: NodeId,
    /// The id that was removed, and the new one.
    pub old_member: u64,
    /// See above.
    pub new_member: u64,
    /// What the node said that made it necessary.
    pub because: String,
}

/// How the cluster came together again.
#[derive(Debug, Clone)]
pub struct Convergence {
    /// How long it took.
    pub took: Duration,
    /// Nodes that had to be started by the harness because they had ended by themselves.
    pub restarted: Vec<NodeId>,
    /// Nodes that had to be replaced.
    pub replaced: Vec<Replaced>,
    /// The index that every member has applied.
    pub applied: u64,
}

/// The state of a node in one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Whose.
    pub node: NodeId,
    /// After which entry.
    pub applied: u64,
    /// The digest, in hexadecimal.
    pub digest: String,
    /// Failures of background jobs that the node reports.
    pub job_errors: Vec<String>,
    /// Damage that the node reports.
    pub damage: Vec<String>,
}

/// What an offline verification of a node's directory found.
#[derive(Debug, Clone)]
pub struct Scrub {
    /// Whose directory.
    pub node: NodeId,
    /// Whether `verify` succeeded.
    pub is_clean: bool,
    /// What is damaged; with a failure of the command itself, what it said.
    pub damage: Vec<String>,
    /// What the next opening would do of its own accord.
    pub notices: Vec<String>,
    /// Damage that an installed fault did to this directory and nobody repaired since: expected.
    pub explained: bool,
}

/// A line of a node's log at WARN or ERROR.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// Whose.
    pub node: NodeId,
    /// In which file, and its line from 1.
    pub file: PathBuf,
    /// See above.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// Something that happened in the world, for the timeline.
#[derive(Debug, Clone)]
pub struct Happening {
    /// When, by the clock of the configuration.
    pub at_ns: u64,
    /// To whom; nothing when it is about the cluster.
    pub node: Option<NodeId>,
    /// What.
    pub what: String,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    config: WorldConfig,
    members: BTreeMap<NodeId, u64>,
    happenings: Vec<Happening>,
}

fn unbuilt<T>() -> Result<T, Error> {
    Err(Error::Unavailable { reason: "it is being built".to_owned() })
}

impl World {
    /// Makes networks, disks and control groups. No node runs yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the machine lacks something; others are faults of the harness.
    pub fn build(config: WorldConfig, _inside: &Inside) -> Result<Self, Error> {
        Ok(Self { config, members: BTreeMap::new(), happenings: Vec::new() })
    }

    /// Starts the nodes, forms the cluster and waits until all of them vote.
    ///
    /// # Errors
    /// [`Error::TooLate`] and [`Error::DidNotStart`] say what the product did instead.
    pub fn boot(&mut self) -> Result<(), Error> {
        unbuilt()
    }

    /// Returns the places whose nodes are members now.
    #[must_use]
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    /// Returns every place, spares too: what a client needs to know once.
    #[must_use]
    pub fn places(&self) -> Vec<NodeId> {
        (1..=self.config.nodes + self.config.spares).map(NodeId).collect()
    }

    /// Returns where clients reach a node, such as `http://10.77.0.1:7171`. It never changes.
    #[must_use]
    pub fn client_url(&self, node: NodeId) -> String {
        format!("http://10.77.0.{}:7171", node.0)
    }

    /// Returns the id of a node in the cluster; nothing when it is no member.
    #[must_use]
    pub fn member_id(&self, node: NodeId) -> Option<u64> {
        self.members.get(&node).copied()
    }

    /// Returns the place of the member that leads: the one that says so itself in the highest term.
    pub fn leader(&mut self) -> Option<NodeId> {
        None
    }

    /// Starts a node and waits until it says where it listens.
    ///
    /// # Errors
    /// [`Error::DidNotStart`] with what it said.
    pub fn start(&mut self, _node: NodeId) -> Result<(), Error> {
        unbuilt()
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// [`Error::TooLate`] when it does not end.
    pub fn stop(&mut self, _node: NodeId) -> Result<(), Error> {
        unbuilt()
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&mut self, _node: NodeId) -> Result<(), Error> {
        unbuilt()
    }

    /// Sends SIGSTOP.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn pause(&mut self, _node: NodeId) -> Result<(), Error> {
        unbuilt()
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn resume(&mut self, _node: NodeId) -> Result<(), Error> {
        unbuilt()
    }

    /// Cuts the power of nodes at once: what was not synced is gone, and the processes with it. Disks are mounted
    /// again; the nodes are not started.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn power_cut(&mut self, _nodes: &[NodeId]) -> Result<(), Error> {
        unbuilt()
    }

    /// Does a fault, or puts it in place until it is healed.
    ///
    /// # Errors
    /// [`Error::NotOffered`] and [`Error::NotNow`] are skips; others are faults of the harness, or of the product where
    /// the fault is an operator's procedure that must succeed (`membership`, `upgrade`).
    pub fn install(&mut self, mode: Mode) -> Result<Installed, Error> {
        Err(Error::NotOffered { mode, reason: "it is being built".to_owned() })
    }

    /// Looks again whether a fault that is in place has an effect.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn observe(&mut self, installed: &Installed) -> Result<crate::Observation, Error> {
        Ok(installed.observation.clone())
    }

    /// Undoes a fault. Nodes that it ended are started again.
    ///
    /// # Errors
    /// Faults of the harness; [`Error::DidNotStart`] when a node does not come back.
    pub fn heal(&mut self, _installed: &Installed) -> Result<Healed, Error> {
        unbuilt()
    }

    /// Undoes every fault that is in place, and returns the final word on each.
    ///
    /// # Errors
    /// As [`World::heal`].
    pub fn heal_everything(&mut self) -> Result<Vec<Healed>, Error> {
        Ok(Vec::new())
    }

    /// Waits until every member runs and has applied what the leader had committed at the call. A member that ended
    /// is started once; one that refuses because of damage that it names is replaced as docs/operations/cluster.md
    /// says.
    ///
    /// # Errors
    /// [`Error::TooLate`] with the state of each node.
    pub fn converge(&mut self, _limit: Duration) -> Result<Convergence, Error> {
        unbuilt()
    }

    /// Stops every node in good order.
    ///
    /// # Errors
    /// [`Error::TooLate`] for one that does not end.
    pub fn stop_all(&mut self) -> Result<(), Error> {
        unbuilt()
    }

    /// Verifies the directory of every member that does not run.
    ///
    /// # Errors
    /// Faults of the harness. Damage is a result.
    pub fn scrub_offline(&mut self) -> Result<Vec<Scrub>, Error> {
        unbuilt()
    }

    /// Returns the lines at WARN and ERROR of all nodes that nothing explains.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn unexpected_log_lines(&self) -> Result<Vec<LogLine>, Error> {
        unbuilt()
    }

    /// Returns the digest of each member that answers. They agree when those at the same index are equal.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn digests(&mut self) -> Result<Vec<Digest>, Error> {
        unbuilt()
    }

    /// Returns what happened so far, in order.
    #[must_use]
    pub fn happenings(&self) -> &[Happening] {
        &self.happenings
    }

    /// Ends every process, unmounts every disk and removes every control group. Dropping does the same, and swallows
    /// failures.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn close(self) -> Result<(), Error> {
        Ok(())
    }
}
