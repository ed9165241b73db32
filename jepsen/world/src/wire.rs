//! The network: a namespace for each node, and a switch in this program that carries every packet between them.
//!
//! Guarantees: no packet goes around the switch; what happens to each is decided by [`Rule`] and seed, counted, and
//! unless it was just relayed, written down. Must not reach the machine's own networks. Invariant: a namespace lives
//! as long as the [`Wire`] or a process in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use alluvium_stdx::{SystemClock, spawn};

mod links;
mod packet;
mod switch;

pub use links::{Counters, Link, Rule};

use crate::command::Line;
use crate::error::Error;
use crate::{limits, sys};
use switch::{Order, Switch};

/// The last byte of the address of the harness itself, where clients are.
pub const CLIENTS: u8 = 100;

/// Returns the address of an end of the network.
#[must_use]
pub const fn address(end: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, end)
}

/// The network of a world.
#[derive(Debug)]
pub struct Wire {
    namespaces: BTreeMap<u8, File>,
    orders: SyncSender<Order>,
    bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Makes a namespace for each of `ends`, and one end for the harness in the namespace of the caller.
    pub(crate) fn build(
        ends: &[u8],
        seed: u64,
        clock: &Arc<SystemClock>,
        decisions: &Path,
    ) -> Result<Self, Error> {
        let mut tuns = BTreeMap::from([(CLIENTS, open_end(CLIENTS)?)]);
        let mut namespaces = BTreeMap::new();
        for &end in ends {
            let made = spawn::thread("namespace", move || new_end(end));
            let joined = made.map_err(Error::io("start a thread"))?.join();
            let (namespace, tun) =
                joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            namespaces.insert(end, namespace);
            tuns.insert(end, tun);
        }
        let (bell, rung) = UnixStream::pair().map_err(Error::io("make a pair of sockets"))?;
        rung.set_nonblocking(true).map_err(Error::io("make a socket that does not block"))?;
        let (orders, taken) = sync_channel(8);
        let mut switch = Switch::new(tuns, seed, Arc::clone(clock), decisions)?;
        let thread = spawn::thread("wire", move || switch.run(&taken, &rung))
            .map_err(Error::io("start a thread"))?;
        Ok(Self { namespaces, orders, bell, thread: Some(thread) })
    }

    /// Returns the file that names an end's namespace to other programs.
    pub(crate) fn namespace(&self, end: u8) -> PathBuf {
        let descriptor = self.namespaces.get(&end).map_or(-1, File::as_raw_fd);
        PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id()))
    }

    /// Listens at an end: what is accepted belongs to the end's namespace, whoever serves it.
    pub(crate) fn listen(&self, end: u8, port: u16) -> Result<TcpListener, Error> {
        let failed = || Error::io(format!("listen at {}:{port}", address(end)));
        let namespace = File::open(self.namespace(end)).map_err(failed())?;
        // A thread of its own, because it stays in that namespace.
        let bind = move || {
            sys::enter_network(&namespace)?;
            #[expect(clippy::disallowed_methods, reason = "the namespace has no other server")]
            TcpListener::bind((address(end), port))
        };
        let bound = spawn::thread("listen", bind).map_err(Error::io("start a thread"))?.join();
        bound.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(failed())
    }

    /// Changes how directed links treat packets, all of them between the same two packets.
    pub fn set(&self, rules: impl IntoIterator<Item = (Link, Rule)>) {
        self.order(Order::Set(rules.into_iter().collect()));
    }

    /// Returns what was done so far, link by link.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<Link, Counters> {
        let (answer, counters) = sync_channel(1);
        self.order(Order::Count(answer));
        counters.recv().expect("the switch runs as long as this handle")
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the switch runs as long as this handle");
        // A full socket means that the bell rings already.
        drop((&self.bell).write(&[1]));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Makes the end and its namespace. The calling thread stays in that namespace, so it must end.
fn new_end(end: u8) -> Result<(File, File), Error> {
    sys::new_network().map_err(Error::io("make a network namespace"))?;
    let tun = open_end(end)?;
    let namespace = File::open("/proc/thread-self/ns/net");
    Ok((namespace.map_err(Error::io("open a network namespace"))?, tun))
}

/// Makes the end in the namespace of the calling thread; programs that it starts run there too.
fn open_end(end: u8) -> Result<File, Error> {
    let tun = sys::open_tun("wire").map_err(Error::io("open a TUN device"))?;
    let (address, mtu) = (format!("{}/24", address(end)), limits::MTU.to_string());
    let ip = |words: &[&str]| Line::new("ip").args(words).run(limits::COMMAND);
    ip(&["link", "set", "lo", "up"])?;
    ip(&["address", "add", &address, "dev", "wire"])?;
    ip(&["link", "set", "wire", "mtu", &mtu, "txqueuelen", "4000", "up"])?;
    Ok(tun)
}
