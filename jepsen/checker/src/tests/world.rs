//! A store that is right by construction: one call after the other, over plain maps.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Call, Dataset, LogIndex, Reply, Step, Versioned};

/// The state of every workload.
#[derive(Debug, Default)]
pub(crate) struct World {
    index: u64,
    datasets: BTreeMap<String, Dataset>,
    lists: BTreeMap<u64, Vec<u64>>,
    sets: BTreeMap<u64, BTreeSet<u64>>,
    pub(crate) balances: BTreeMap<u64, i64>,
    pub(crate) registers: BTreeMap<u64, Versioned>,
    rows: BTreeMap<u64, i64>,
    /// For each command of a session: its answer and index.
    commands: BTreeMap<(u64, u64), (u64, u64)>,
}

impl World {
    /// Does `call`; returns what a client is told.
    pub(crate) fn apply(&mut self, call: &Call) -> (Reply, LogIndex) {
        if let Call::Increment { session, sequence } = call {
            return self.increment((*session, *sequence));
        }
        if call.is_read() {
            return (self.read(call), LogIndex(self.index));
        }
        self.index += 1;
        (self.write(call), LogIndex(self.index))
    }

    pub(crate) fn incarnation(&self, name: &str) -> u64 {
        self.datasets.get(name).map_or(0, |dataset| dataset.incarnation)
    }

    fn increment(&mut self, command: (u64, u64)) -> (Reply, LogIndex) {
        if !self.commands.contains_key(&command) {
            self.index += 1;
            let count = self.commands.len() as u64 + 1;
            self.commands.insert(command, (count, self.index));
        }
        let (count, index) = self.commands[&command];
        (Reply::Incremented { count }, LogIndex(index))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a test may panic at the rest")]
    fn read(&self, call: &Call) -> Reply {
        match call {
            Call::Describe { name } => {
                Reply::Described { dataset: self.datasets.get(name).copied() }
            }
            Call::Scan { set } => {
                let elements = self.sets.get(set).into_iter().flatten().copied().collect();
                Reply::Elements { elements }
            }
            Call::Balances => Reply::Balances { balances: self.balances.clone() },
            Call::Read { key } => Reply::Value { current: self.registers.get(key).copied() },
            Call::Get { key } => Reply::Row { value: self.rows.get(key).copied() },
            Call::Count => Reply::Counted { count: self.commands.len() as u64 },
            Call::Transact { steps } => {
                let lists = steps.iter().map(|step| self.list(step)).collect();
                Reply::Transacted { lists }
            }
            other => panic!("{other:?} is no read"),
        }
    }

    fn list(&self, step: &Step) -> Option<Vec<u64>> {
        let Step::Read { key } = step else { return None };
        Some(self.lists.get(key).cloned().unwrap_or_default())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a test may panic at the rest")]
    fn write(&mut self, call: &Call) -> Reply {
        let index = self.index;
        match call {
            Call::Register { name, .. } if self.datasets.contains_key(name) => Reply::Refused,
            Call::Register { name, spec } => {
                let dataset = Dataset { spec: *spec, incarnation: index };
                self.datasets.insert(name.clone(), dataset);
                Reply::Registered { incarnation: index }
            }
            Call::Drop { name, incarnation } if self.incarnation(name) != *incarnation => {
                Reply::Refused
            }
            Call::Drop { name, .. } => {
                let gone = self.datasets.remove(name);
                if gone.is_some() { Reply::Done } else { Reply::Refused }
            }
            Call::Transact { steps } => self.transact(steps),
            Call::Add { set, element } => {
                self.sets.entry(*set).or_default().insert(*element);
                Reply::Done
            }
            Call::Delete { set, element } => {
                self.sets.entry(*set).or_default().remove(element);
                Reply::Done
            }
            Call::Transfer { from, to, amount } => self.transfer(*from, *to, *amount),
            Call::Write { key, value } => self.set(*key, *value),
            Call::Cas { key, version, new, .. } => {
                let current = self.registers.get(key).map_or(0, |register| register.version);
                if current == *version { self.set(*key, *new) } else { Reply::Refused }
            }
            Call::Upsert { key, value } => {
                self.rows.insert(*key, *value);
                Reply::Done
            }
            Call::Tombstone { key } => {
                self.rows.remove(key);
                Reply::Done
            }
            other => panic!("{other:?} is no write"),
        }
    }

    fn set(&mut self, key: u64, value: i64) -> Reply {
        let version = self.index;
        self.registers.insert(key, Versioned { value, version });
        Reply::Written { version }
    }

    fn transact(&mut self, steps: &[Step]) -> Reply {
        let mut lists = Vec::new();
        for step in steps {
            lists.push(self.list(step));
            if let Step::Append { key, value } = step {
                self.lists.entry(*key).or_default().push(*value);
            }
        }
        Reply::Transacted { lists }
    }

    fn transfer(&mut self, from: u64, to: u64, amount: i64) -> Reply {
        if self.balances[&from] < amount {
            return Reply::Refused;
        }
        *self.balances.entry(from).or_default() -= amount;
        *self.balances.entry(to).or_default() += amount;
        Reply::Done
    }
}
