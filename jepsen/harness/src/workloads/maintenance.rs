//! Seals, compactions and expiries beside the workloads: what happens in the background of a real lake.
//!
//! It must not expire what a workload reads as of: only sets are expired, up to a while ago. Invariant: it changes
//! no row that anybody can see.

use std::time::Duration;

use super::{Shared, Workload, book, lists, registers, sets, table};
use crate::recorder::{Ending, Trace};
use crate::stage::Client;

/// How far behind the newest index a floor stays.
const FLOOR_DISTANCE: u64 = 400;

pub(crate) async fn step(client: &mut Client<'_>, shared: &Shared) {
    let set = shared.sets.rotation.some(client).map(|number| book(sets::PREFIX, number));
    let name = match client.prng.below(6) {
        0..=2 => set,
        3..=4 => Some(table::NAME.to_owned()),
        _ => Some(book(if client.prng.one_in(2) { registers::ROWS } else { lists::BLIND }, 1)),
    };
    let Some(name) = name else {
        tokio::time::sleep(Duration::from_millis(100)).await;
        return;
    };
    let (lake, begin_ns) = (client.lake(), client.stage.recorder.now_ns());
    let told = match client.prng.below(8) {
        0..=3 => lake.seal(&name).await,
        4..=6 => lake.compact(&name).await,
        _ if name.starts_with(sets::PREFIX) => {
            let floor = client.stage.seen.get().saturating_sub(FLOOR_DISTANCE);
            lake.expire(&name, Some(floor.max(1))).await
        }
        _ => lake.seal(&name).await,
    };
    let recorder = &client.stage.recorder;
    recorder.note(Trace {
        workload: Workload::Maintenance,
        book: name,
        position: 0,
        process: 0,
        node: lake.node().0,
        begin_ns,
        end_ns: recorder.now_ns(),
        ending: if told.is_ok() { Ending::Ok } else { Ending::Fail },
        reason: told.as_ref().err().map(|fault| fault.reason.clone()),
        message: told.as_ref().err().map(|fault| fault.message.clone()),
        is_write: false,
        tag: None,
        index: told.ok(),
    });
    client.move_on();
    tokio::time::sleep(Duration::from_millis(150)).await;
}
