//! Where clients act: the nodes, the pace, and when to stop; and one client's way through it.
//!
//! It must not know a workload. Invariant: a client has one call under way, and goes on as another process after
//! an ambiguous outcome.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alluvium_checker::{Call, ProcessId, Reply};
use alluvium_stdx::Prng;

use crate::client::{Address, Lake, Write};
use crate::limits;
use crate::outcome::{Certainty, Fault, NOT_CONNECTED};
use crate::recorder::{Ending, Recorder, Told};
use crate::workloads::{Workload, number};

/// What all clients share. It lives on their thread.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) recorder: Recorder,
    pub(crate) addresses: Vec<Address>,
    /// Set when clients are to end after the call that they are in.
    pub(crate) is_over: Arc<AtomicBool>,
    /// Between two calls of one client, on average.
    pub(crate) pace: Duration,
    /// The highest index that anybody saw.
    pub(crate) seen: Cell<u64>,
    /// Where the files of datasets go.
    pub(crate) sharing: Sharing,
}

/// Which datasets keep their files in the bucket that all nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sharing {
    /// None: there is no such bucket.
    #[default]
    None,
    /// All of them.
    All(&'static str),
    /// Every second one; the number decides which.
    Half(&'static str, u64),
}

impl Sharing {
    /// Returns the bucket of a dataset, the same whoever asks: a name is registered by several clients. Nothing means
    /// each member's own.
    pub(crate) fn bucket_of(self, name: &str) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::All(bucket) => Some(bucket),
            Self::Half(bucket, turn) => {
                // The books of one kind take turns, and so do the kinds.
                let letters = name.bytes().take_while(|byte| *byte != b'-').map(u64::from);
                let place = letters.fold(number(name), u64::wrapping_add);
                place.wrapping_add(turn).is_multiple_of(2).then_some(bucket)
            }
        }
    }
}

impl Stage {
    pub(crate) fn new(recorder: Recorder, addresses: Vec<Address>, pace: Duration) -> Self {
        let sharing = Sharing::default();
        Self { recorder, addresses, is_over: Arc::default(), pace, seen: Cell::new(0), sharing }
    }
}

/// One client: a process bound to a node for a while.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) workload: Workload,
    pub(crate) prng: Prng,
    lakes: Vec<Lake>,
    at: usize,
    stays: u64,
    is_bound: bool,
    process: ProcessId,
}

impl<'a> Client<'a> {
    pub(crate) fn new(stage: &'a Stage, workload: Workload, seed: u64) -> anyhow::Result<Self> {
        let connect = |address: &Address| Lake::new(address, limits::CALL_DEADLINE);
        let lakes = stage.addresses.iter().map(connect).collect::<anyhow::Result<Vec<_>>>()?;
        anyhow::ensure!(!lakes.is_empty(), "a client needs a node");
        let mut prng = Prng::from_seed(seed);
        let at = pick(&mut prng, lakes.len());
        let process = stage.recorder.process();
        Ok(Self { stage, workload, prng, lakes, at, stays: 20, is_bound: false, process })
    }

    /// The node that the client is bound to.
    pub(crate) fn lake(&self) -> Lake {
        self.lakes[self.at].clone()
    }

    /// Every node.
    pub(crate) fn lakes(&self) -> &[Lake] {
        &self.lakes
    }

    /// Goes to another node, unless it is bound to one.
    pub(crate) fn move_on(&mut self) {
        if self.is_bound {
            return;
        }
        self.at = pick(&mut self.prng, self.lakes.len());
        self.stays = 10 + self.prng.below(60);
    }

    /// Makes all calls at one node from now on.
    pub(crate) fn bind(&mut self, at: usize) {
        self.at = at % self.lakes.len();
        self.is_bound = true;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stage.is_over.load(Ordering::SeqCst)
    }

    /// Waits before the next call, sometimes not at all.
    pub(crate) async fn rest(&mut self) {
        let most = u64::try_from(self.stage.pace.as_micros()).unwrap_or(u64::MAX).saturating_mul(2);
        tokio::time::sleep(Duration::from_micros(self.prng.below(most.max(1)))).await;
    }

    /// A write of this client to a dataset.
    pub(crate) fn write<'n>(&self, name: &'n str) -> Write<'n> {
        let tag = self.stage.recorder.tag(self.workload);
        let bucket = self.stage.sharing.bucket_of(name);
        Write { name, tag, bucket, ..Write::default() }
    }

    /// Makes a call, records it in a book, and goes on as another process where its outcome is in doubt.
    pub(crate) async fn call(
        &mut self,
        book: &str,
        call: Call,
        tag: Option<String>,
        work: impl Future<Output = Told>,
    ) -> (Ending, Told) {
        let (recorder, node) = (&self.stage.recorder, self.lake().node());
        let who = (self.process, node);
        let pending = recorder.invoke((self.workload, book), who, &call, tag);
        let told = work.await;
        let ending = recorder.complete(pending, &told);
        self.learn(ending, &told);
        if told.as_ref().is_err_and(|fault| fault.reason == NOT_CONNECTED) {
            // A node that is away answers at once: without a pause it would get most calls.
            tokio::time::sleep(limits::AWAY_PAUSE).await;
        }
        (ending, told)
    }

    fn learn(&mut self, ending: Ending, told: &Told) {
        if ending == Ending::Info {
            self.process = self.stage.recorder.process();
        }
        self.stays = self.stays.saturating_sub(1);
        let is_away = told.as_ref().is_err_and(|fault| fault.reason == NOT_CONNECTED);
        let is_lost = is_away || (ending != Ending::Ok && self.prng.one_in(2));
        if (is_lost || self.stays == 0) && self.stays < u64::MAX / 2 {
            self.move_on();
        }
        if let Ok((_, index)) = told {
            self.stage.seen.set(self.stage.seen.get().max(*index));
        }
    }
}

/// Before anything was sent that changes something, a failure leaves no doubt.
pub(crate) fn harmless(fault: Fault) -> Fault {
    Fault { certainty: Certainty::Definite, ..fault }
}

/// The answer of a write that says nothing but where it is.
pub(crate) fn done(index: Result<u64, Fault>) -> Told {
    index.map(|index| (Reply::Done, index))
}

pub(crate) fn pick(prng: &mut Prng, length: usize) -> usize {
    let bound = u64::try_from(length).unwrap_or(u64::MAX).max(1);
    usize::try_from(prng.below(bound)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_checker::NodeId;

    use crate::workloads::book;

    #[test]
    fn every_second_dataset_of_a_kind_is_in_the_shared_bucket_and_the_seed_decides_which() {
        let is_shared = |turn, name: &str| Sharing::Half("lake", turn).bucket_of(name).is_some();
        for turn in [0, 1, 7] {
            for prefix in ["w1", "w3", "w4", "w5rows"] {
                let shared = (1..=10).filter(|number| is_shared(turn, &book(prefix, *number)));
                assert_eq!(shared.count(), 5, "{prefix} {turn}");
            }
            assert_ne!(is_shared(turn, "w7-table"), is_shared(turn + 1, "w7-table"));
            let ours = is_shared(turn, "w3-0001");
            assert_ne!(ours, is_shared(turn, "w3-0002"));
            assert_ne!(ours, is_shared(turn + 1, "w3-0001"));
        }
        assert_eq!(Sharing::All("lake").bucket_of("w3-0001"), Some("lake"));
        assert_eq!(Sharing::None.bucket_of("w3-0001"), None);
    }

    #[tokio::test]
    async fn a_client_that_is_bound_to_a_node_does_not_move_on() {
        let clock = Arc::new(alluvium_stdx::SystemClock::new());
        let address =
            |node| Address { node: NodeId(node), url: format!("http://127.0.0.1:{node}") };
        let addresses = (1..=3).map(address).collect();
        let stage = Stage::new(Recorder::new(clock), addresses, Duration::ZERO);
        let mut client = Client::new(&stage, Workload::W7, 5).expect("no call is made yet");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            client.move_on();
            seen.insert(client.lake().node().0);
        }
        assert_eq!(seen.len(), 3, "it wanders");
        client.bind(1);
        for _ in 0..100 {
            client.move_on();
            assert_eq!(client.lake().node().0, 2);
        }
    }
}
