//! The elements of one set: who added and deleted each, and which scans there are.
//!
//! It must not judge. Invariant: an element has at most one add and one delete.

use std::collections::BTreeMap;

use crate::call::{Call, Reply};
use crate::history::Operation;
use crate::verdict::{Anomaly, Doubt, Evidence};

/// What happened to one element.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Element<'a> {
    pub(crate) add: Option<&'a Operation>,
    pub(crate) delete: Option<&'a Operation>,
}

impl<'a> Element<'a> {
    /// Returns the add, unless it definitely failed.
    pub(crate) fn possible_add(&self) -> Option<&'a Operation> {
        self.add.filter(|operation| !operation.is_failed())
    }

    /// Returns the delete, unless it definitely failed.
    pub(crate) fn possible_delete(&self) -> Option<&'a Operation> {
        self.delete.filter(|operation| !operation.is_failed())
    }
}

/// A scan that was answered.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    pub(crate) operation: &'a Operation,
    /// In order, each once.
    elements: Vec<u64>,
    /// An element that the answer has twice.
    twice: Option<u64>,
}

impl Scan<'_> {
    pub(crate) fn shows(&self, element: u64) -> bool {
        self.elements.binary_search(&element).is_ok()
    }

    pub(crate) fn elements(&self) -> &[u64] {
        &self.elements
    }
}

/// A delete that may have had an effect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delete<'a> {
    pub(crate) operation: &'a Operation,
    /// Whether the element was surely there when it was called: otherwise it may have come before the add.
    pub(crate) found_it: bool,
}

/// One set.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    pub(crate) set: u64,
    pub(crate) elements: BTreeMap<u64, Element<'a>>,
    pub(crate) scans: Vec<Scan<'a>>,
}

impl<'a> Members<'a> {
    pub(crate) fn of(set: u64) -> Self {
        Self { set, elements: BTreeMap::new(), scans: Vec::new() }
    }

    pub(crate) fn subject(&self) -> String {
        format!("set {}", self.set)
    }

    /// Takes note of an operation of this set.
    pub(crate) fn take(&mut self, operation: &'a Operation) -> Result<(), Doubt> {
        let answer = operation.answer().map(|(reply, _)| reply);
        if let Some(Reply::Elements { elements }) = answer {
            let mut elements = elements.clone();
            elements.sort_unstable();
            let pairs = elements.iter().zip(elements.iter().skip(1));
            let twice = pairs.filter(|(one, next)| one == next).map(|(one, _)| *one).next();
            elements.dedup();
            self.scans.push(Scan { operation, elements, twice });
        }
        let (Call::Add { element, .. } | Call::Delete { element, .. }) = &operation.call else {
            return Ok(());
        };
        let known = self.elements.entry(*element).or_default();
        let is_add = matches!(operation.call, Call::Add { .. });
        let place = if is_add { &mut known.add } else { &mut known.delete };
        let earlier = place.replace(operation);
        let subject = format!("element {element} of set {}", self.set);
        if earlier.is_some() { Err(Doubt::Untraceable { subject }) } else { Ok(()) }
    }

    /// Returns the delete of `element`, unless it definitely had no effect.
    pub(crate) fn delete(&self, element: u64) -> Option<Delete<'a>> {
        let known = self.elements.get(&element)?;
        let operation = known.possible_delete()?;
        let mut shown = self.scans.iter().filter(|scan| scan.shows(element));
        let was_added = known.possible_add().is_some_and(|add| add.precedes(operation));
        let found_it = was_added || shown.clone().any(|scan| scan.operation.precedes(operation));
        let was_early = !found_it && shown.any(|scan| operation.precedes(scan.operation));
        (!was_early).then_some(Delete { operation, found_it })
    }

    /// Returns whether a scan began after everything that was acknowledged.
    pub(crate) fn has_final_scan(&self) -> bool {
        let updates = self.elements.values().flat_map(|element| [element.add, element.delete]);
        let last = updates.flatten().filter_map(Operation::settled_ns).max();
        self.scans.iter().any(|scan| last.is_none_or(|last| last < scan.operation.invoked_ns))
    }

    /// Returns the scans that show an element twice.
    pub(crate) fn duplicates(&self) -> impl Iterator<Item = Evidence> + '_ {
        self.scans.iter().filter_map(|scan| {
            let detail = format!("element {} is there twice", scan.twice?);
            let operations = [scan.operation.id];
            Some(Evidence::new(Anomaly::Duplicate, self.subject(), operations, detail))
        })
    }
}
