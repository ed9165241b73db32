//! The thread that reads packets from every end and writes them to another.
//!
//! Must not decide about a packet: [`Links`] does. Invariant: it ends when it is told to, and never blocks on one end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use alluvium_stdx::{Clock as _, SystemClock};

use super::links::{Counters, Decision, Link, Links, Rule};
use super::packet;
use crate::error::Error;
use crate::{limits, sys};

/// How many packets of one end are carried before the others have their turn.
const TURN: usize = 32;
/// How long the switch sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// What the world tells the switch.
#[derive(Debug)]
pub(super) enum Order {
    Set(Vec<(Link, Rule)>),
    Count(SyncSender<BTreeMap<Link, Counters>>),
    Stop,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Switch {
    tuns: BTreeMap<u8, File>,
    links: Links,
    clock: Arc<SystemClock>,
    decisions: BufWriter<File>,
    written: u64,
}

impl Switch {
    pub(super) fn new(
        tuns: BTreeMap<u8, File>,
        seed: u64,
        clock: Arc<SystemClock>,
        decisions: &Path,
    ) -> Result<Self, Error> {
        let file = File::create(decisions);
        let file = file.map_err(Error::io(format!("make {}", decisions.display())))?;
        let decisions = BufWriter::new(file);
        Ok(Self { tuns, links: Links::new(seed), clock, decisions, written: 0 })
    }

    pub(super) fn run(&mut self, orders: &Receiver<Order>, bell: &UnixStream) {
        let mut polled: Vec<RawFd> = vec![bell.as_raw_fd()];
        polled.extend(self.tuns.values().map(File::as_raw_fd));
        let ends: Vec<u8> = self.tuns.keys().copied().collect();
        loop {
            let ready = sys::wait_readable(&polled, self.until_due())
                .expect("the switch holds every file that it waits for");
            if ready.first() == Some(&true) {
                // What is left in the bell rings again.
                drop((&*bell).read(&mut [0; 64]));
            }
            while let Ok(order) = orders.try_recv() {
                match order {
                    Order::Set(rules) => {
                        rules.into_iter().for_each(|(link, rule)| self.links.set(link, rule));
                    }
                    Order::Count(answer) => drop(answer.send(self.links.counters())),
                    Order::Stop => return,
                }
            }
            for (end, _) in ends.iter().zip(ready.iter().skip(1)).filter(|(_, ready)| **ready) {
                self.carry_from(*end);
            }
            let now_ns = self.clock.monotonic_ns();
            while let Some((to, packet)) = self.links.take_due(now_ns) {
                self.send(to, &packet);
            }
        }
    }

    fn until_due(&self) -> Duration {
        let due = self.links.next_due_ns();
        let left = due.map(|due| due.saturating_sub(self.clock.monotonic_ns()));
        left.map_or(IDLE, Duration::from_nanos).min(IDLE)
    }

    fn carry_from(&mut self, end: u8) {
        let mut buffer = [0; limits::MTU + 64];
        let mut decided = Vec::new();
        for _ in 0..TURN {
            let Some(mut tun) = self.tuns.get(&end) else { return };
            let Ok(length @ 1..) = tun.read(&mut buffer) else { return };
            let Some(packet) = buffer.get_mut(..length) else { return };
            let now_ns = self.clock.monotonic_ns();
            if let Some(to) = self.links.offer(packet, now_ns, &mut decided) {
                self.send(to, buffer.get(..length).unwrap_or_default());
            }
            if !decided.is_empty() {
                self.write_down(now_ns, &buffer, &decided);
                decided.clear();
            }
        }
    }

    /// Sends a packet. One that its end does not take is lost, as on any wire.
    fn send(&self, to: u8, packet: &[u8]) {
        if let Some(mut tun) = self.tuns.get(&to) {
            drop(tun.write(packet));
        }
    }

    fn write_down(&mut self, now_ns: u64, packet: &[u8], decided: &[Decision]) {
        let Some((from, to)) = packet::ends(packet) else { return };
        if self.written > limits::DECISIONS_BYTES {
            return;
        }
        let line = format!("{now_ns} {from}>{to} {decided:?}\n");
        self.written += u64::try_from(line.len()).unwrap_or(0);
        // The counters are the proof; this file only explains them.
        drop(self.decisions.write_all(line.as_bytes()));
    }
}
