//! Clients that each wait for their answer before they ask again: how a service uses a cluster.
//!
//! It must not pace anyone. Invariant: only operations that ended within the window are counted, and the window
//! opens after all clients have run for a while.

use std::sync::Arc;
use std::time::Duration;

use alluvium_stdx::{Clock as _, SystemClock};
use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use tokio::task::JoinSet;

use crate::contest::Sample;
use alluvium_bench_kit::stats::percentile;

/// One operation of one client, again and again.
pub(crate) type Work = Box<dyn FnMut() -> BoxFuture<'static, Result<()>> + Send>;

/// What a loop measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    /// Latencies in nanoseconds, sorted.
    sorted_ns: Vec<u64>,
}

impl Measured {
    /// Returns the rate times `weight`, with the latencies in microseconds beside it.
    pub(crate) fn sample(&self, weight: f64) -> Result<Sample> {
        let micros = |per_mille| {
            let ns = percentile(&self.sorted_ns, per_mille).context("nothing was measured")?;
            anyhow::Ok(ns as f64 / 1_000.0)
        };
        let extras = vec![micros(500)?, micros(990)?];
        Ok(Sample { value: self.per_second * weight, extras })
    }
}

/// When a run counts.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin_ns: u64,
    end_ns: u64,
}

impl Window {
    /// Returns the window of `millis` that opens after a warm-up which begins now.
    fn new(clock: &SystemClock, millis: u64) -> Self {
        let warm_up = Duration::from_millis((millis / 4).max(20));
        let begin_ns = clock.monotonic_ns() + nanos(warm_up);
        Self { begin_ns, end_ns: begin_ns + nanos(Duration::from_millis(millis)) }
    }

    /// Takes note of an operation; returns whether to go on.
    fn count(self, latencies: &mut Vec<u64>, before: u64, after: u64) -> bool {
        let is_open = after <= self.end_ns;
        if is_open && self.begin_ns <= after {
            latencies.push(after - before);
        }
        is_open
    }

    fn measured(self, mut sorted_ns: Vec<u64>) -> Result<Measured> {
        sorted_ns.sort_unstable();
        anyhow::ensure!(!sorted_ns.is_empty(), "no operation ended within the window");
        let length = Duration::from_nanos(self.end_ns - self.begin_ns);
        let per_second = sorted_ns.len() as f64 / length.as_secs_f64();
        Ok(Measured { per_second, sorted_ns })
    }
}

/// Runs the works, each in a task of its own, for `millis` after a warm-up.
pub(crate) async fn run(works: Vec<Work>, millis: u64) -> Result<Measured> {
    let clock = Arc::new(SystemClock::new());
    let window = Window::new(&clock, millis);
    let mut clients = JoinSet::new();
    for work in works {
        #[expect(clippy::disallowed_methods, reason = "a benchmark is a program of its own")]
        clients.spawn(repeat(Arc::clone(&clock), window, work));
    }
    let mut latencies = Vec::new();
    while let Some(ended) = clients.join_next().await {
        latencies.extend(ended.context("a client panicked")??);
    }
    window.measured(latencies)
}

async fn repeat(clock: Arc<SystemClock>, window: Window, mut work: Work) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    let mut before = clock.monotonic_ns();
    loop {
        work().await?;
        let after = clock.monotonic_ns();
        if !window.count(&mut latencies, before, after) {
            return Ok(latencies);
        }
        before = after;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a run is shorter than centuries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_operations_that_end_within_the_window_count() {
        let window = Window { begin_ns: 100, end_ns: 1_100 };
        let mut latencies = Vec::new();
        let counted = [(50, 90), (90, 110), (110, 1_100), (1_100, 1_200)];
        let goes_on: Vec<bool> =
            counted.iter().map(|&(b, a)| window.count(&mut latencies, b, a)).collect();
        assert_eq!(
            (latencies.as_slice(), goes_on),
            (&[20, 990][..], vec![true, true, true, false])
        );
        let measured = window.measured(latencies).expect("two ended");
        assert_eq!((measured.per_second, measured.sorted_ns), (2e6, vec![20, 990]));
    }
}
