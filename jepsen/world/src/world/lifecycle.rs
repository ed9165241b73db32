//! Starts and ends of nodes, and how the cluster is formed.

use alluvium_stdx::Prng;

use super::{NodeId, World};
use crate::command::sleep;
use crate::error::Error;
use crate::limits;
use crate::node::{Launch, NodeProcess, Version, ending};
use crate::served::Loss;
use crate::wire;

/// Segments so short that several are closed within a minute.
const SEGMENT: &str = "1MiB";

impl World {
    /// Starts the nodes, forms the cluster and waits until all of them vote.
    ///
    /// # Errors
    /// [`Error::TooLate`] and [`Error::DidNotStart`] say what the product did instead.
    pub fn boot(&mut self) -> Result<(), Error> {
        let begun = self.now();
        let places: Vec<NodeId> = (1..=self.config.nodes).map(NodeId).collect();
        let members: Vec<u64> = places.iter().map(|place| u64::from(place.0)).collect();
        let certificates = self.config.scratch.join("certificates");
        self.cluster = Some(self.operator.certificates(&certificates, None, &members)?);
        self.highest_member = u64::from(self.config.nodes);
        for place in &places {
            self.node_mut(*place).member = Some(u64::from(place.0));
        }
        let Some((first, others)) = places.split_first() else { return Ok(()) };
        self.found(*first)?;
        self.start(*first)?;
        for place in others {
            self.start(*place)?;
        }
        self.wait_for_votes(&places, limits::BOOT)?;
        let took = self.now().saturating_sub(begun);
        self.happened(None, format!("the cluster stands after {took:.1?}"));
        Ok(())
    }

    /// Makes the directory of the node that founds the cluster.
    fn found(&mut self, place: NodeId) -> Result<(), Error> {
        let mut words = self.operator.words(&["cluster", "init"]);
        words.extend(self.member_words(place, false));
        words.extend(["--log-level".to_owned(), self.config.log_level.clone()]);
        // The first segment has its length from the start: a longer one would keep the log from being purged.
        words.extend(self.log_words());
        let mut process = self.launch(place, &words, "init")?;
        match process.wait(limits::START) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Error::DidNotStart {
                node: place,
                status: ending(status),
                said: process.last_words(),
            }),
            None => {
                process.signal(libc::SIGKILL)?;
                process.wait(limits::COMMAND);
                Err(self.too_late("the founding of the cluster", limits::START))
            }
        }
    }

    /// Returns the flags that say how much log a node keeps.
    fn log_words(&self) -> [String; 4] {
        let log = format!("{}MiB", self.config.log_mib);
        ["--segment-bytes".to_owned(), SEGMENT.to_owned(), "--log-bytes".to_owned(), log]
    }

    /// Returns the flags of a member: its directory, its address and its certificate.
    fn member_words(&self, place: NodeId, joins: bool) -> Vec<String> {
        let node = self.node(place);
        let certificates = self.config.scratch.join("certificates");
        let member = node.member.expect("only a member is started");
        let file = |name: String| certificates.join(name).to_string_lossy().into_owned();
        let mut words = vec![
            "--data-dir".to_owned(),
            node.disk.node_dir().to_string_lossy().into_owned(),
            "--peer".to_owned(),
            format!("{}:7172", wire::address(place.0)),
            "--peer-ca".to_owned(),
            file("ca.crt".to_owned()),
            "--peer-cert".to_owned(),
            file(format!("node-{member}.crt")),
            "--peer-key".to_owned(),
            file(format!("node-{member}.key")),
        ];
        // A directory that is not new joins nothing, so the flags may stay.
        let others = self.node_ids().into_iter().filter(|other| joins && *other != place);
        for other in others {
            words.extend(["--join".to_owned(), format!("{}:7172", wire::address(other.0))]);
        }
        words
    }

    fn launch(&self, place: NodeId, words: &[String], log: &str) -> Result<NodeProcess, Error> {
        let node = self.node(place);
        let mut env = self.shim_env(place);
        let temporary = self.config.scratch.join("temporary");
        env.push(("TMPDIR".to_owned(), temporary.to_string_lossy().into_owned()));
        env.push(("HOME".to_owned(), "/nonexistent".to_owned()));
        env.extend(self.store_env());
        env.extend(self.config.env.iter().cloned());
        NodeProcess::start(&Launch {
            namespace: &self.wire.namespace(place.0),
            doors: &node.groups.doors(),
            env: &env,
            words,
            log: &self.config.scratch.join("logs").join(format!("{place}-{log}")),
        })
    }

    /// Starts the process of a node, and does not wait for it.
    pub(crate) fn spawn(&mut self, place: NodeId) -> Result<(), Error> {
        if self.node_mut(place).is_running() {
            return Err(Error::WrongState { node: place, state: "running", what: "a start" });
        }
        let mut words = match (self.node(place).version, &self.config.previous) {
            (Version::Previous, Some(previous)) => {
                crate::operator::Operator::new(previous).words(&["serve"])
            }
            (Version::Previous | Version::Current, _) => self.operator.words(&["serve"]),
        };
        words.extend(self.member_words(place, true));
        words.extend(["--listen".to_owned(), format!("{}:7171", wire::address(place.0))]);
        let level = self.config.log_level.clone();
        words.extend(["--insecure", "--log-level", &level].map(str::to_owned));
        words.extend(self.store_words());
        if matches!(self.node(place).version, Version::Current) {
            words.extend(self.log_words());
        }
        self.node_mut(place).starts += 1;
        let log = format!("{:03}", self.node(place).starts);
        let process = self.launch(place, &words, &log)?;
        let pid = process.pid();
        self.node_mut(place).process = Some(process);
        self.happened(Some(place), format!("started as process {pid}"));
        Ok(())
    }

    /// Waits until a node says where it listens.
    fn wait_until_it_listens(&mut self, place: NodeId) -> Result<(), Error> {
        let begun = self.now();
        loop {
            let Some(process) = &mut self.node_mut(place).process else {
                return Err(Error::WrongState {
                    node: place,
                    state: "not started",
                    what: "a wait",
                });
            };
            if process.announcement().is_some() {
                let took = self.now().saturating_sub(begun);
                self.happened(Some(place), format!("listens, waited for {took:.1?}"));
                return Ok(());
            }
            if let Some(status) = process.ended() {
                let (status, said) = (ending(status), process.last_words());
                self.happened(Some(place), format!("ended while it started: {status}"));
                return Err(Error::DidNotStart { node: place, status, said });
            }
            if self.now().saturating_sub(begun) > limits::START {
                return Err(self.too_late(&format!("{place} to listen"), limits::START));
            }
            sleep(limits::LOOK);
        }
    }

    /// Starts a node and waits until it says where it listens.
    ///
    /// # Errors
    /// [`Error::DidNotStart`] with what it said.
    pub fn start(&mut self, node: NodeId) -> Result<(), Error> {
        self.start_all(&[node])
    }

    /// Starts nodes side by side, and waits until each says where it listens: a node of a cluster that is down may
    /// need the others for that.
    ///
    /// # Errors
    /// The first [`Error::DidNotStart`], after all of them were waited for.
    pub fn start_all(&mut self, nodes: &[NodeId]) -> Result<(), Error> {
        for node in nodes {
            self.spawn(*node)?;
        }
        let mut first = Ok(());
        for node in nodes {
            let listens = self.wait_until_it_listens(*node);
            first = first.and(listens);
        }
        first
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// [`Error::TooLate`] when it does not end.
    pub fn stop(&mut self, node: NodeId) -> Result<(), Error> {
        let process = self.node_mut(node).running("a stop")?;
        process.signal(libc::SIGTERM)?;
        let status = process.wait(limits::STOP);
        match status {
            Some(status) => {
                self.happened(Some(node), format!("stopped, {}", ending(status)));
                Ok(())
            }
            None => Err(self.too_late(&format!("{node} to stop after SIGTERM"), limits::STOP)),
        }
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&mut self, node: NodeId) -> Result<(), Error> {
        self.node_mut(node).running("a kill")?;
        let status = self.node_mut(node).kill()?;
        self.happened(Some(node), format!("killed, {}", status.map_or_else(String::new, ending)));
        Ok(())
    }

    /// Sends SIGSTOP.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn pause(&mut self, node: NodeId) -> Result<(), Error> {
        let process = self.node_mut(node).running("a pause")?;
        process.signal(libc::SIGSTOP)?;
        process.is_paused = true;
        self.happened(Some(node), "paused");
        Ok(())
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn resume(&mut self, node: NodeId) -> Result<(), Error> {
        let process = self.node_mut(node).running("a resumption")?;
        process.is_paused = false;
        process.signal(libc::SIGCONT)?;
        self.happened(Some(node), "resumed");
        Ok(())
    }

    /// Cuts the power of nodes at once: what was not synced is gone, and the processes with it. Disks are mounted
    /// again; the nodes are not started.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn power_cut(&mut self, nodes: &[NodeId]) -> Result<(), Error> {
        // All disks first: between the first and the last cut no node learns that another one is gone.
        for node in nodes {
            self.node(*node).disk.cut()?;
        }
        for node in nodes {
            if let Some(process) = &mut self.node_mut(*node).process {
                process.signal(libc::SIGKILL)?;
            }
        }
        for node in nodes {
            self.node_mut(*node).kill()?;
            self.node(*node).disk.remount()?;
            self.happened(Some(*node), "lost its power and what was not synced");
        }
        Ok(())
    }

    /// Cuts the power of nodes whose disks are served, at once: of what was not flushed a part by chance survives, in
    /// whole sectors and in no order. Disks are mounted again, which replays their journals; the nodes are not started.
    ///
    /// # Errors
    /// Faults of the harness.
    pub fn tear_power(&mut self, nodes: &[NodeId]) -> Result<Vec<Loss>, Error> {
        for node in nodes {
            if let Some(served) = self.node(*node).disk.served() {
                served.cut();
            }
        }
        for node in nodes {
            if let Some(process) = &mut self.node_mut(*node).process {
                process.signal(libc::SIGKILL)?;
            }
        }
        let mut losses = Vec::new();
        for node in nodes {
            self.node_mut(*node).kill()?;
            // How much there is to choose from differs from run to run; what is chosen later must not.
            let mut prng = Prng::from_seed(self.prng.next_u64());
            let loss = self.node(*node).disk.remount_after_loss(&mut prng)?;
            self.happened(Some(*node), format!("lost its power, and of its disk: {loss:?}"));
            losses.extend(loss);
        }
        Ok(losses)
    }

    /// Stops every node in good order.
    ///
    /// # Errors
    /// [`Error::TooLate`] for one that does not end, after all of them were asked.
    pub fn stop_all(&mut self) -> Result<(), Error> {
        let mut first = Ok(());
        for node in self.places() {
            if self.node_mut(node).is_running() {
                let stopped = self.stop(node);
                first = first.and(stopped);
            }
        }
        first
    }
}
