//! The jepsen harness: clients, faults and judges around a cluster of real processes.
//!
//! It drives workloads through the public API, lets `alluvium-world` do faults meanwhile, and lets
//! `alluvium-checker` judge the histories. Invariant: it ends with 0 only if every selected fault was observed, every
//! judge says valid, and the replicas are equal after a power cut of all of them.

mod client;
mod judge;
mod limits;
mod model;
mod outcome;
mod recorder;
mod rows;
mod stage;
mod troupe;
mod verdict;
mod witness;
mod workloads;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    let urls: Vec<String> = std::env::args().skip(2).collect();
    let seconds: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(10);
    let clock = Arc::new(alluvium_stdx::SystemClock::new());
    let addresses = urls.into_iter().zip(1..).map(|(url, n)| client::Address { node: alluvium_checker::NodeId(n), url }).collect();
    let troupe = troupe::Troupe::gather(troupe::Casting { addresses, workloads: workloads::Workload::ALL.to_vec(), clients: 18, rate: 300, seed: 1, clock: Arc::clone(&clock) }).expect("x");
    troupe.play().expect("x");
    std::thread::sleep(Duration::from_secs(seconds));
    eprintln!("{:?}", troupe.stop());
    eprintln!("{:?}", troupe.prove(Duration::from_secs(10)));
    eprintln!("{:?}", troupe.sweep());
    eprintln!("{:?}", troupe.resolve());
    let record = troupe.dismiss().expect("x");
    let mut counts = std::collections::BTreeMap::new();
    for t in &record.traces { *counts.entry((t.workload, t.ending, t.reason.clone())).or_insert(0) += 1; }
    for c in counts { eprintln!("{c:?}"); }
    eprintln!("misuse refused {} accepted {}", record.refused, record.accepted.len());
    eprintln!("{:?}", judge::counts(&record));
    let findings = judge::judge(&record, &clock);
    for f in findings.iter().take(20) { eprintln!("{f:?}"); }
    eprintln!("{} {:?}", findings.len(), verdict::Conclusion::of(&findings));
    ExitCode::SUCCESS
}
