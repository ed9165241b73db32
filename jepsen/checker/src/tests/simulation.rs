//! Concurrent histories of the right store: calls, effects and answers at random times.
//!
//! An ambiguous operation took effect, takes effect long after its client gave up, or never does. So
//! every checker must find these histories valid.

use alluvium_stdx::Prng;

use super::world::World;
use crate::{Action, Call, Event, History, LogIndex, NodeId, Outcome, ProcessId, Reply};

/// How a history is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    pub(crate) operations: usize,
    /// One in how many operations is ambiguous, in each of three ways.
    pub(crate) ambiguous_one_in: u64,
    /// One in how many fails.
    pub(crate) failed_one_in: u64,
}

#[derive(Debug)]
enum Standing {
    Idle,
    Sent(Call),
    Done(Reply, LogIndex),
}

/// Runs `client`'s calls; `last` come one after the other when all else is over.
pub(crate) fn simulate(
    seed: u64,
    plan: Plan,
    world: World,
    mut client: impl FnMut(&mut Prng, &World) -> Call,
    last: &[Call],
) -> History {
    let mut run = Run::new(seed, plan, world);
    while run.is_busy() {
        run.tick(&mut client);
    }
    for call in last {
        run.invoke(0, call.clone());
        let (reply, index) = run.world.apply(call);
        run.complete(0, Outcome::Ok { reply, index });
    }
    History::new(run.events).expect("simulated processes are sequential")
}

struct Run {
    prng: Prng,
    plan: Plan,
    world: World,
    events: Vec<Event>,
    time_ns: u64,
    next_process: u64,
    clients: Vec<(ProcessId, Standing)>,
    /// Given up by their clients, still under way.
    late: Vec<Call>,
    left: usize,
}

impl Run {
    fn new(seed: u64, plan: Plan, world: World) -> Self {
        let clients: Vec<_> =
            (0..plan.clients as u64).map(|id| (ProcessId(id), Standing::Idle)).collect();
        Self {
            prng: Prng::from_seed(seed),
            plan,
            world,
            events: Vec::new(),
            time_ns: 0,
            next_process: plan.clients as u64,
            clients,
            late: Vec::new(),
            left: plan.operations,
        }
    }

    fn is_busy(&self) -> bool {
        self.left > 0 || self.clients.iter().any(|(_, at)| !matches!(at, Standing::Idle))
    }

    fn tick(&mut self, client: &mut impl FnMut(&mut Prng, &World) -> Call) {
        if !self.late.is_empty() && self.prng.one_in(8) {
            let call = self.late.remove(0);
            self.world.apply(&call);
        }
        let bound = self.clients.len() as u64;
        let slot = usize::try_from(self.prng.below(bound)).expect("few clients");
        match std::mem::replace(&mut self.clients[slot].1, Standing::Idle) {
            Standing::Idle if self.left > 0 => {
                self.left -= 1;
                let call = client(&mut self.prng, &self.world);
                self.invoke(slot, call);
            }
            Standing::Idle => {}
            Standing::Sent(call) => self.proceed(slot, call),
            Standing::Done(..) if self.prng.one_in(self.plan.ambiguous_one_in) => {
                self.give_up(slot);
            }
            Standing::Done(reply, index) => self.complete(slot, Outcome::Ok { reply, index }),
        }
    }

    fn proceed(&mut self, slot: usize, call: Call) {
        if self.prng.one_in(self.plan.failed_one_in) {
            return self.complete(slot, Outcome::Fail);
        }
        if self.prng.one_in(self.plan.ambiguous_one_in) {
            return self.give_up(slot);
        }
        if self.prng.one_in(self.plan.ambiguous_one_in) {
            self.late.push(call);
            return self.give_up(slot);
        }
        let (reply, index) = self.world.apply(&call);
        self.clients[slot].1 = Standing::Done(reply, index);
    }

    fn invoke(&mut self, slot: usize, call: Call) {
        self.clients[slot].1 = Standing::Sent(call.clone());
        self.record(slot, Action::Invoke { node: NodeId(slot as u64 % 3), call });
    }

    fn complete(&mut self, slot: usize, outcome: Outcome) {
        self.clients[slot].1 = Standing::Idle;
        self.record(slot, Action::Complete { outcome });
    }

    /// The client goes on as another process.
    fn give_up(&mut self, slot: usize) {
        if self.prng.one_in(2) {
            self.record(slot, Action::Complete { outcome: Outcome::Info });
        }
        self.clients[slot] = (ProcessId(self.next_process), Standing::Idle);
        self.next_process += 1;
    }

    fn record(&mut self, slot: usize, action: Action) {
        self.time_ns += 1 + self.prng.below(9);
        let process = self.clients[slot].0;
        self.events.push(Event { time_ns: self.time_ns, process, action });
    }
}
