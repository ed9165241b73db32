//! A store that breaks on purpose, by seed: the simulator's object store.
//!
//! Faults are those that real stores show: refused and lost replies, short and flipped reads, slow calls,
//! stale listings, and a put that leaves a part behind. Must not: sleep on the machine's clock or break
//! anything once healed. Invariant: the same seed and the same calls give the same faults.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_stdx::Prng;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

/// How often each fault strikes: once in so many calls, never when zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// The call is refused without effect, like a 5xx or 429.
    pub refused_one_in: u64,
    /// The call times out without effect.
    pub lost_request_one_in: u64,
    /// The call takes effect and its reply is lost.
    pub lost_reply_one_in: u64,
    /// A read returns fewer bytes than asked.
    pub truncated_read_one_in: u64,
    /// A read returns one wrong bit.
    pub flipped_read_one_in: u64,
    /// A put leaves a part of the object and fails: a store that breaks its contract.
    pub partial_put_one_in: u64,
    /// A listing misses some objects.
    pub stale_list_one_in: u64,
    /// A call takes up to `slow_ms_max` of tokio's time.
    pub slow_one_in: u64,
    /// The longest slow call.
    pub slow_ms_max: u64,
}

impl FaultRates {
    /// Nothing breaks.
    pub const NONE: Self = Self {
        refused_one_in: 0,
        lost_request_one_in: 0,
        lost_reply_one_in: 0,
        truncated_read_one_in: 0,
        flipped_read_one_in: 0,
        partial_put_one_in: 0,
        stale_list_one_in: 0,
        slow_one_in: 0,
        slow_ms_max: 0,
    };

    /// What a bad day at a real store looks like: all but a broken contract.
    pub const BAD_DAY: Self = Self {
        refused_one_in: 10,
        lost_request_one_in: 20,
        lost_reply_one_in: 20,
        truncated_read_one_in: 30,
        flipped_read_one_in: 50,
        stale_list_one_in: 3,
        ..Self::NONE
    };
}

/// How many faults struck: a run that injected none proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Calls refused or lost before they took effect.
    pub without_effect: u64,
    /// Calls that took effect and whose reply was lost.
    pub lost_replies: u64,
    /// Reads that were cut or flipped.
    pub damaged_reads: u64,
    /// Puts that left a part.
    pub partial_puts: u64,
    /// Listings that missed objects.
    pub stale_lists: u64,
    /// Calls that were delayed.
    pub slow: u64,
}

/// Why a call of a [`FaultStore`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InjectedFault {
    /// The store said no.
    #[error("injected: service unavailable")]
    Refused,
    /// No reply came; whether the call took effect is unknown to the caller.
    #[error("injected: timed out")]
    TimedOut,
}

/// A store that passes calls to `inner` and breaks some of them.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    prng: Prng,
    rates: FaultRates,
    counts: FaultCounts,
}

/// What happens to one call, decided before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    slow: Duration,
    before: Option<InjectedFault>,
    lost_reply: bool,
}

impl FaultStore {
    /// Returns a store over `inner` whose faults follow `seed`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64, rates: FaultRates) -> Self {
        let prng = Prng::from_seed(seed);
        let state = Mutex::new(State { prng, rates, counts: FaultCounts::default() });
        Self { inner, state }
    }

    /// Changes how often faults strike from the next call on; `FaultRates::NONE` heals the store.
    pub fn set_rates(&self, rates: FaultRates) {
        self.lock().rates = rates;
    }

    /// Returns what struck so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.lock().counts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn enter(&self) -> object_store::Result<Fate> {
        let fate = self.lock().decide();
        if fate.slow > Duration::ZERO {
            tokio::time::sleep(fate.slow).await;
        }
        match fate.before {
            Some(fault) => Err(injected(fault)),
            None => Ok(fate),
        }
    }

    fn damage(&self, bytes: Bytes) -> Bytes {
        self.lock().damage(bytes)
    }

    async fn put_part(&self, location: &Path, payload: &PutPayload) -> object_store::Error {
        let whole: Bytes = payload.clone().into();
        let kept = usize::try_from(self.lock().prng.below(whole.len().max(1) as u64)).unwrap_or(0);
        let part = PutPayload::from_bytes(whole.slice(..kept));
        // The part must not replace a whole object that the mode protects.
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.inner.put_opts(location, part, options).await {
            Ok(_) | Err(_) => injected(InjectedFault::TimedOut),
        }
    }
}

impl State {
    fn strikes(&mut self, one_in: u64) -> bool {
        0 < one_in && self.prng.one_in(one_in)
    }

    fn decide(&mut self) -> Fate {
        let rates = self.rates;
        let mut fate = Fate { slow: Duration::ZERO, before: None, lost_reply: false };
        if self.strikes(rates.slow_one_in) {
            self.counts.slow += 1;
            fate.slow = Duration::from_millis(1 + self.prng.below(rates.slow_ms_max.max(1)));
        }
        if self.strikes(rates.refused_one_in) {
            fate.before = Some(InjectedFault::Refused);
        } else if self.strikes(rates.lost_request_one_in) {
            fate.before = Some(InjectedFault::TimedOut);
        } else if self.strikes(rates.lost_reply_one_in) {
            fate.lost_reply = true;
            self.counts.lost_replies += 1;
        }
        self.counts.without_effect += u64::from(fate.before.is_some());
        fate
    }

    fn damage(&mut self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        let len = bytes.len() as u64;
        if self.strikes(self.rates.truncated_read_one_in) {
            self.counts.damaged_reads += 1;
            let kept = usize::try_from(self.prng.below(len)).unwrap_or(0);
            return bytes.slice(..kept);
        }
        if self.strikes(self.rates.flipped_read_one_in) {
            self.counts.damaged_reads += 1;
            let at = usize::try_from(self.prng.below(len)).unwrap_or(0);
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << self.prng.below(8);
            return damaged.into();
        }
        bytes
    }

    fn thin_out(&mut self, listed: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
        if !self.strikes(self.rates.stale_list_one_in) {
            return listed;
        }
        self.counts.stale_lists += 1;
        listed.into_iter().filter(|_| !self.prng.one_in(2)).collect()
    }
}

fn injected(fault: InjectedFault) -> object_store::Error {
    object_store::Error::Generic { store: "FaultStore", source: Box::new(fault) }
}

fn deliver<T>(fate: Fate, reply: object_store::Result<T>) -> object_store::Result<T> {
    if fate.lost_reply { Err(injected(InjectedFault::TimedOut)) } else { reply }
}

impl std::fmt::Display for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        let fate = self.enter().await?;
        let partial = {
            let mut state = self.lock();
            let one_in = state.rates.partial_put_one_in;
            let strikes = state.strikes(one_in);
            state.counts.partial_puts += u64::from(strikes);
            strikes
        };
        if partial {
            return Err(self.put_part(location, &payload).await);
        }
        deliver(fate, self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        // An upload that never completes is what a lost reply leaves: parts without an object.
        let fate = self.enter().await?;
        deliver(fate, self.inner.put_multipart_opts(location, opts).await)
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let fate = self.enter().await?;
        let head = options.head;
        let got = deliver(fate, self.inner.get_opts(location, options).await)?;
        if head {
            return Ok(got);
        }
        let (meta, range, attributes) =
            (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let bytes = self.damage(got.bytes().await?);
        let payload =
            GetResultPayload::Stream(stream::once(futures::future::ready(Ok(bytes))).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let fate = self.enter().await?;
        let got = deliver(fate, self.inner.get_ranges(location, ranges).await)?;
        Ok(got.into_iter().map(|bytes| self.damage(bytes)).collect())
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let inner = Arc::clone(&self.inner);
        // The stream outlives this borrow, so the fate of the whole call is decided now.
        let fate = self.lock().decide();
        locations
            .then(move |location| {
                let inner = Arc::clone(&inner);
                async move {
                    let location = location?;
                    if let Some(fault) = fate.before {
                        return Err(injected(fault));
                    }
                    deliver(fate, inner.delete(&location).await)?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let fate = self.lock().decide();
        if let Some(fault) = fate.before {
            return stream::once(futures::future::ready(Err(injected(fault)))).boxed();
        }
        let seed = self.lock().prng.next_u64();
        let stale = {
            let mut state = self.lock();
            let one_in = state.rates.stale_list_one_in;
            let strikes = state.strikes(one_in);
            state.counts.stale_lists += u64::from(strikes);
            strikes
        };
        let mut choice = Prng::from_seed(seed);
        let listed = self.inner.list(prefix);
        listed
            .filter(move |found| {
                let missed = stale && found.is_ok() && choice.one_in(2);
                futures::future::ready(!missed)
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let fate = self.enter().await?;
        let mut listed = deliver(fate, self.inner.list_with_delimiter(prefix).await)?;
        listed.objects = self.lock().thin_out(listed.objects);
        Ok(listed)
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        let fate = self.enter().await?;
        deliver(fate, self.inner.copy_opts(from, to, options).await)
    }
}

#[cfg(test)]
mod tests;
