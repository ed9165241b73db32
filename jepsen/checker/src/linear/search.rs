//! The search for an order: depth first, over a doubly linked list of calls and returns.
//!
//! A call before the first return in the list may come next; it is lifted out with its return, and put back
//! when nothing fits behind it. Ambiguous calls have no return: they wait beside the list, and are tried
//! only where no answered call fits, since most never matter. It must not try a configuration (the
//! operations that are placed, and the state) twice. Invariant: the list holds exactly the answered
//! operations that are not placed, in order of time.

use alluvium_stdx::HashSet;

use super::placed::Placed;
use super::{Budget, Model};
use crate::call::{Call, Reply};
use crate::history::{OpId, Operation};

/// An operation of a search: when it may take effect, and what it answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) id: OpId,
    pub(crate) call: &'a Call,
    pub(crate) reply: Option<&'a Reply>,
    /// Not before this time.
    pub(crate) start: u64,
    /// Not after this time; nothing for an ambiguous one, which may also never take effect.
    pub(crate) end: Option<u64>,
}

impl<'a> Entry<'a> {
    pub(crate) fn of(operation: &'a Operation) -> Self {
        Self {
            id: operation.id,
            call: &operation.call,
            reply: operation.answer().map(|(reply, _)| reply),
            start: operation.invoked_ns,
            end: operation.settled_ns(),
        }
    }
}

/// What a search ends with.
#[derive(Debug)]
pub(crate) enum Found {
    /// An order that explains all answers.
    Order,
    /// There is none.
    Stuck {
        /// The longest order that explains its answers.
        prefix: Vec<OpId>,
        /// What had to come next, and did not fit.
        unplaced: Vec<OpId>,
    },
    /// The budget ended first.
    Spent {
        /// How often the model was asked.
        steps: u64,
    },
}

/// Searches for an order of `entries`.
pub(crate) fn search<M: Model>(model: &M, entries: Vec<Entry<'_>>, budget: &Budget<'_>) -> Found {
    Search::new(model, entries, budget).run()
}

/// Who is tried next.
#[derive(Debug, Clone, Copy)]
enum Cursor {
    /// A node of the list.
    Node(usize),
    /// An ambiguous operation that was called before `limit`, the first return in the list.
    Open { position: usize, limit: u64 },
}

/// What was placed, and how to go back.
struct Frame<S> {
    cursor: Cursor,
    before: S,
}

struct Search<'a, M: Model> {
    model: &'a M,
    budget: &'a Budget<'a>,
    answered: Vec<Entry<'a>>,
    ambiguous: Vec<Entry<'a>>,
    list: List,
    placed: Placed,
    placed_ambiguous: Placed,
    seen: HashSet<(Box<[u64]>, M::State)>,
    state: M::State,
    stack: Vec<Frame<M::State>>,
    steps: u64,
    prefix: Vec<OpId>,
    unplaced: Vec<OpId>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, mut entries: Vec<Entry<'a>>, budget: &'a Budget<'a>) -> Self {
        entries.sort_by_key(|entry| (entry.start, entry.id));
        let (answered, ambiguous): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.end.is_some());
        Self {
            model,
            budget,
            list: List::of(&answered),
            placed: Placed::of(answered.len()),
            placed_ambiguous: Placed::of(ambiguous.len()),
            answered,
            ambiguous,
            seen: HashSet::default(),
            state: model.initial(),
            stack: Vec::new(),
            steps: 0,
            prefix: Vec::new(),
            unplaced: Vec::new(),
        }
    }

    fn run(mut self) -> Found {
        let mut cursor = self.list.first();
        while let Some(at) = cursor {
            if self.budget.is_spent(self.steps) {
                return Found::Spent { steps: self.steps };
            }
            cursor = match self.try_at(at) {
                Tried::Placed => self.list.first(),
                Tried::Next(next) => Some(next),
                Tried::Exhausted => match self.go_back() {
                    Some(next) => Some(next),
                    None => {
                        let (prefix, unplaced) = (self.prefix, self.unplaced);
                        return Found::Stuck { prefix, unplaced };
                    }
                },
            };
        }
        Found::Order
    }

    fn try_at(&mut self, cursor: Cursor) -> Tried {
        match cursor {
            Cursor::Node(node) if List::is_call(node) => {
                let entry = self.answered[node / 2];
                if self.place(cursor, &entry) {
                    return Tried::Placed;
                }
                Tried::Next(Cursor::Node(self.list.next[node]))
            }
            Cursor::Node(node) => {
                let limit = self.list.time[node];
                Tried::Next(Cursor::Open { position: 0, limit })
            }
            Cursor::Open { position, limit } => {
                let next = self.ambiguous.get(position).copied();
                let Some(entry) = next.filter(|entry| entry.start <= limit) else {
                    self.note_stuck();
                    return Tried::Exhausted;
                };
                if !self.placed_ambiguous.contains(position) && self.place(cursor, &entry) {
                    return Tried::Placed;
                }
                Tried::Next(Cursor::Open { position: position + 1, limit })
            }
        }
    }

    /// Places the operation at `cursor` if the model allows it and the outcome is new.
    fn place(&mut self, cursor: Cursor, entry: &Entry<'_>) -> bool {
        self.steps += 1;
        let Some(next) = self.model.step(&self.state, entry.call, entry.reply) else {
            return false;
        };
        let is_idle = entry.end.is_none() && next == self.state;
        if is_idle {
            return false;
        }
        self.mark(cursor);
        if !self.seen.insert((self.key(), next.clone())) {
            self.unmark(cursor);
            return false;
        }
        if let Cursor::Node(node) = cursor {
            self.list.lift(node);
        }
        let before = std::mem::replace(&mut self.state, next);
        self.stack.push(Frame { cursor, before });
        true
    }

    /// Takes the last operation back; returns what to try in its place.
    fn go_back(&mut self) -> Option<Cursor> {
        let Frame { cursor, before } = self.stack.pop()?;
        self.state = before;
        self.unmark(cursor);
        Some(match cursor {
            Cursor::Node(node) => {
                self.list.put_back(node);
                Cursor::Node(self.list.next[node])
            }
            Cursor::Open { position, limit } => Cursor::Open { position: position + 1, limit },
        })
    }

    fn mark(&mut self, cursor: Cursor) {
        match cursor {
            Cursor::Node(node) => self.placed.insert(node / 2),
            Cursor::Open { position, .. } => self.placed_ambiguous.insert(position),
        }
    }

    fn unmark(&mut self, cursor: Cursor) {
        match cursor {
            Cursor::Node(node) => self.placed.remove(node / 2),
            Cursor::Open { position, .. } => self.placed_ambiguous.remove(position),
        }
    }

    fn key(&self) -> Box<[u64]> {
        let mut key = Vec::new();
        self.placed.describe(&mut key);
        self.placed_ambiguous.describe(&mut key);
        key.into_boxed_slice()
    }

    /// Keeps the evidence of the deepest dead end.
    fn note_stuck(&mut self) {
        if !self.unplaced.is_empty() && self.stack.len() <= self.prefix.len() {
            return;
        }
        self.prefix = self.stack.iter().map(|frame| self.entry_at(frame.cursor).id).collect();
        let waiting = self.list.calls_before_first_return();
        self.unplaced = waiting.map(|node| self.answered[node / 2].id).collect();
    }

    fn entry_at(&self, cursor: Cursor) -> &Entry<'a> {
        match cursor {
            Cursor::Node(node) => &self.answered[node / 2],
            Cursor::Open { position, .. } => &self.ambiguous[position],
        }
    }
}

enum Tried {
    Placed,
    Next(Cursor),
    Exhausted,
}

/// The doubly linked list. Operation `k` has its call at node `2k` and its return at `2k + 1`; the last node
/// is both ends.
#[derive(Debug)]
struct List {
    next: Vec<usize>,
    previous: Vec<usize>,
    time: Vec<u64>,
}

impl List {
    fn of(entries: &[Entry<'_>]) -> Self {
        let mut time = Vec::with_capacity(entries.len() * 2);
        for entry in entries {
            let end = entry.end.expect("only answered operations are in the list");
            time.extend([entry.start, end]);
        }
        let mut order: Vec<usize> = (0..time.len()).collect();
        // At the same instant calls come first: what only touches is concurrent.
        order.sort_by_key(|&node| (time[node], !Self::is_call(node), node));
        let ends = time.len();
        let (mut next, mut previous) = (vec![ends; ends + 1], vec![ends; ends + 1]);
        let mut last = ends;
        for node in order {
            (next[last], previous[node]) = (node, last);
            last = node;
        }
        (next[last], previous[ends]) = (ends, last);
        Self { next, previous, time }
    }

    fn is_call(node: usize) -> bool {
        node.is_multiple_of(2)
    }

    fn ends(&self) -> usize {
        self.time.len()
    }

    fn first(&self) -> Option<Cursor> {
        let first = self.next[self.ends()];
        (first != self.ends()).then_some(Cursor::Node(first))
    }

    fn lift(&mut self, call: usize) {
        for node in [call, call + 1] {
            let (before, after) = (self.previous[node], self.next[node]);
            (self.next[before], self.previous[after]) = (after, before);
        }
    }

    /// Undoes the last `lift`: the nodes still know their neighbors.
    fn put_back(&mut self, call: usize) {
        for node in [call + 1, call] {
            let (before, after) = (self.previous[node], self.next[node]);
            (self.next[before], self.previous[after]) = (node, node);
        }
    }

    fn calls_before_first_return(&self) -> impl Iterator<Item = usize> + '_ {
        let first = self.next[self.ends()];
        std::iter::successors(Some(first), |node| Some(self.next[*node]))
            .take_while(|node| *node != self.ends() && Self::is_call(*node))
    }
}
