//! The world: nodes, their network and disks, and the faults that are in place.
//!
//! One thread drives it; clients run beside it and need only addresses, which never change. Must not hide what a
//! node did: a node that does not come back is reported, not started again and again. Invariant: a process is
//! signalled only by the id that was recorded when it was started and before it was waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alluvium_stdx::{Clock as _, Prng, SystemClock};

mod at;
mod converge;
mod endings;
mod lifecycle;
mod log_lines;
mod members;
mod records;

pub use records::{Convergence, Digest, Happening, LogLine, Replaced, Scrub};

use crate::cgroup::Groups;
use crate::disk::{Disk, Disks};
use crate::enter::Inside;
use crate::error::Error;
use crate::fault::FaultId;
use crate::mode::Family;
use crate::nemesis::Active;
use crate::node::{Node, Version};
use crate::operator::Operator;
use crate::served;
use crate::shim::{self, Page};
use crate::store::{self, BucketReport, Store};
use crate::wire::{self, Wire};

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
    /// What the disks are.
    pub disks: Disks,
    /// How much log a node keeps, in MiB, beyond what it needs.
    pub log_mib: u64,
    /// Whether there is a store with a bucket that all nodes share.
    pub shared_bucket: bool,
    /// More variables for each node's environment.
    pub env: Vec<(String, String)>,
    /// The `--log-level` of each node.
    pub log_level: String,
    /// Whose time the records have: the clients' clock, so that both can be laid over each other.
    pub clock: Arc<SystemClock>,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(crate) config: WorldConfig,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// The bucket that all nodes share. Before the network, because it ends first.
    pub(crate) store: Option<Store>,
    pub(crate) wire: Wire,
    pub(crate) operator: Operator,
    pub(crate) prng: Prng,
    pub(crate) cluster: Option<String>,
    pub(crate) highest_member: u64,
    pub(crate) active: BTreeMap<FaultId, Active>,
    pub(crate) next_fault: u64,
    /// The families of all faults that were installed so far: what may explain a line of a log.
    pub(crate) done: BTreeSet<Family>,
    pub(crate) happenings: Vec<Happening>,
    /// Why no disk of this world is served by us; nothing when all are.
    pub(crate) unserved: Option<String>,
    shim: PathBuf,
    is_closed: bool,
}

impl World {
    /// Makes networks, disks and control groups. No node runs yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the machine lacks something; others are faults of the harness.
    pub fn build(config: WorldConfig, inside: &Inside) -> Result<Self, Error> {
        let made = |path: &Path| {
            fs::create_dir_all(path).map_err(Error::io(format!("make {}", path.display())))
        };
        let scratch = config.scratch.clone();
        for part in ["logs", "pages", "temporary"] {
            made(&scratch.join(part))?;
        }
        let shim = shim::compile(&scratch)?;
        let ends: Vec<u8> = (1..=config.nodes + config.spares).collect();
        let decisions = scratch.join("wire.log");
        let more = config.shared_bucket.then_some(store::END);
        let all: Vec<u8> = ends.iter().copied().chain(more).collect();
        let wire = Wire::build(&all, config.seed, &config.clock, &decisions)?;
        let store = match config.shared_bucket {
            true => {
                let listener = wire.listen(store::END, store::PORT)?;
                // A sequence of chance of its own, as the switch has one.
                let seed = config.seed.rotate_left(32) ^ u64::from(store::PORT);
                Some(Store::start(listener, seed, &config.clock)?)
            }
            false => None,
        };
        let unserved = match config.disks {
            Disks::Served => served::missing(),
            Disks::Plain => Some("the disks of this world are plain files".to_owned()),
        };
        let mut world = Self {
            nodes: BTreeMap::new(),
            store,
            wire,
            operator: Operator::new(&config.binary),
            // The switch has the seed itself; two users of one sequence would not be independent.
            prng: Prng::from_seed(!config.seed),
            cluster: None,
            highest_member: 0,
            active: BTreeMap::new(),
            next_fault: 1,
            done: BTreeSet::new(),
            happenings: Vec::new(),
            unserved,
            shim,
            is_closed: false,
            config,
        };
        let name = inside.unique_name();
        for id in ends.into_iter().map(NodeId) {
            let node = world.make_node(id, &name)?;
            world.nodes.insert(id, node);
        }
        world.happened(None, "the world is built");
        Ok(world)
    }

    fn make_node(&self, id: NodeId, groups: &str) -> Result<Node, Error> {
        let scratch = &self.config.scratch;
        let (image, mount) = (scratch.join(format!("{id}.img")), scratch.join(format!("{id}")));
        let disks = if self.unserved.is_none() { Disks::Served } else { Disks::Plain };
        Ok(Node {
            id,
            disk: Disk::make(image, mount, self.config.disk_mib, disks)?,
            groups: Groups::make(format!("{groups}-{id}"))?,
            page: Page::make(scratch.join(format!("pages/{id}")))?,
            member: None,
            process: None,
            starts: 0,
            version: Version::Current,
            damaged: Vec::new(),
        })
    }

    /// Returns the places whose nodes are members now.
    #[must_use]
    pub fn node_ids(&self) -> Vec<NodeId> {
        let members = self.nodes.values().filter(|node| node.member.is_some());
        members.map(|node| node.id).collect()
    }

    /// Returns every place, spares too: what a client needs to know once.
    #[must_use]
    pub fn places(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Returns where clients reach a node, such as `http://10.77.0.1:7171`. It never changes.
    #[must_use]
    pub fn client_url(&self, node: NodeId) -> String {
        format!("http://{}:7171", wire::address(node.0))
    }

    /// Returns the id of a node in the cluster; nothing when it is no member.
    #[must_use]
    pub fn member_id(&self, node: NodeId) -> Option<u64> {
        self.nodes.get(&node).and_then(|node| node.member)
    }

    /// Returns the name of the bucket that all nodes share; nothing when there is none.
    #[must_use]
    pub fn shared_bucket(&self) -> Option<&'static str> {
        self.store.as_ref().map(|_| store::BUCKET)
    }

    /// Returns what is and was in the bucket that all nodes share; nothing when there is none.
    #[must_use]
    pub fn bucket_report(&self) -> Option<BucketReport> {
        self.store.as_ref().map(Store::report)
    }

    /// Returns the variables that say how the shared bucket is reached: none when there is none.
    pub(crate) fn store_env(&self) -> Vec<(String, String)> {
        self.store.as_ref().map(|_| Store::env()).unwrap_or_default()
    }

    /// Returns the flags that tell a node of the shared bucket: none when there is none.
    pub(crate) fn store_words(&self) -> Vec<String> {
        self.store.as_ref().map(|_| Store::words().to_vec()).unwrap_or_default()
    }

    /// Returns the network, for rules and counters of the caller's own.
    #[must_use]
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Returns what happened so far, in order.
    #[must_use]
    pub fn happenings(&self) -> &[Happening] {
        &self.happenings
    }

    pub(crate) fn happened(&mut self, node: Option<NodeId>, what: impl Into<String>) {
        let at_ns = self.config.clock.monotonic_ns();
        self.happenings.push(Happening { at_ns, node, what: what.into() });
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.config.clock.monotonic_ns())
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).expect("a place is never removed")
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a place is never removed")
    }

    pub(crate) fn shim_env(&self, id: NodeId) -> Vec<(String, String)> {
        let node = self.node(id);
        node.page.env(&self.shim, node.disk.root())
    }

    /// Ends every process, unmounts every disk and removes every control group. Dropping does the same, and swallows
    /// failures.
    ///
    /// # Errors
    /// The first of what could not be removed.
    pub fn close(mut self) -> Result<(), Error> {
        self.tear_down()
    }

    fn tear_down(&mut self) -> Result<(), Error> {
        let mut first = Ok(());
        if std::mem::replace(&mut self.is_closed, true) {
            return first;
        }
        for node in self.nodes.values_mut() {
            let ended = node.kill().map(drop);
            // Each step is tried, whatever became of the one before.
            for result in [ended, node.disk.close(), node.groups.remove()] {
                first = first.and(result);
            }
        }
        first
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`; the end of the program removes what is left.
        drop(self.tear_down());
    }
}
