//! `objstore`: the store of the shared bucket fails, forgets to answer, is slow or away, or has a damaged object.
//!
//! Must not damage what the product still needs for good: nobody else has a copy, so that it is put back. Invariant: a
//! mode is observed by what the server counted of requests that met it.

use super::{Done, Undo, Undone, not_now};
use crate::error::Error;
use crate::fault::Observation;
use crate::mode::Mode;
use crate::store::{Absence, Met, Plan, Store};
use crate::world::World;

/// How many of a thousand requests fail: some, most, or all but a few.
const ERRORS_PERMILLE: [u64; 3] = [250, 600, 950];
/// How many of a thousand puts are not answered.
const LOST_PERMILLE: [u64; 2] = [500, 900];
/// Up to how late a slow store serves, in milliseconds.
const SLOW_MS: [u64; 3] = [200, 800, 2_500];

impl World {
    pub(super) fn install_on_store(&mut self, mode: Mode) -> Result<Done, Error> {
        let is_busy = |undo: &Undo| matches!(undo, Undo::Store { .. } | Undo::Object);
        if self.active.values().any(|active| is_busy(&active.undo)) {
            return Err(not_now(mode, "the store has another fault"));
        }
        let nodes = self.node_ids();
        let Some(store) = &self.store else {
            let reason = "the nodes were started without a shared bucket".to_owned();
            return Err(Error::NotOffered { mode, reason });
        };
        let prng = &mut self.prng;
        let mut one_of = |choices: &[u64]| prng.pick(choices).copied().unwrap_or(1);
        let plan = match mode {
            Mode::ObjstoreErrors => Plan::Errors { permille: one_of(&ERRORS_PERMILLE) },
            Mode::ObjstoreLost => Plan::Lost { permille: one_of(&LOST_PERMILLE) },
            Mode::ObjstoreSlow => Plan::Slow { most_ms: one_of(&SLOW_MS) },
            Mode::ObjstoreAway => Plan::Away(match prng.one_in(2) {
                true => Absence::HangsUp,
                false => Absence::Silent,
            }),
            _ => {
                let detail = store.damage(prng);
                let none = || not_now(mode, "no data file of the shared bucket is read yet");
                return Ok(Done {
                    nodes,
                    detail: detail.ok_or_else(none)?,
                    observation: unmet(),
                    undo: Undo::Object,
                });
            }
        };
        let before = store.met();
        store.set(plan);
        let detail = format!("the store of the shared bucket: {plan:?}");
        Ok(Done { nodes, detail, observation: unmet(), undo: Undo::Store { before } })
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("a fault of the store was installed")
    }

    /// Says by the server's counters whether requests met what the mode does.
    pub(super) fn observe_store(&self, mode: Mode, before: Met) -> Observation {
        let met = self.store().met().since(before);
        let seen = match mode {
            Mode::ObjstoreErrors => met.refused > 0,
            Mode::ObjstoreLost => met.lost > 0,
            Mode::ObjstoreSlow => met.delayed > 0,
            _ => met.unanswered > 0,
        };
        Observation::of(seen, format!("the store counted {met:?}"))
    }

    pub(super) fn observe_object(&self) -> Observation {
        let met = self.store().damage_met();
        Observation::of(met > 0, format!("{met} requests met the damage"))
    }

    pub(super) fn undo_store(&self) -> Undone {
        self.store().set(Plan::None);
        Undone::of("the store does everything again")
    }

    pub(super) fn undo_object(&self) -> Undone {
        Undone::of(self.store().mend())
    }
}

fn unmet() -> Observation {
    let why = "no request was counted yet; asked again at the healing".to_owned();
    Observation::Indeterminate { why }
}
