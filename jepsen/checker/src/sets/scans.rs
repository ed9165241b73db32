//! What each scan had to show and must not show.
//!
//! It must not use the log's order. Invariant: the effect of a scan lies between `lower` and `upper`.

use std::collections::BTreeMap;

use super::members::{Delete, Element, Members};
use crate::history::{OpId, Operation};
use crate::verdict::{Anomaly, Evidence};

/// When a scan took effect.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    lower: u64,
    upper: u64,
}

/// What the scans say about one element.
#[derive(Debug, Clone, Copy)]
struct Presence {
    /// It was surely added by then.
    there_by: Option<u64>,
    /// It was surely deleted by then, as scans show that missed it when it had been there.
    gone_by: Option<u64>,
    /// The last scan that shows it begins here.
    last_shown: Option<u64>,
}

type Deletes<'a> = BTreeMap<u64, Delete<'a>>;

/// When a delete that found its element was acknowledged.
fn deleted_by(deletes: &Deletes<'_>, element: u64) -> Option<u64> {
    let delete = deletes.get(&element).filter(|delete| delete.found_it)?;
    delete.operation.settled_ns()
}

/// All scans of a set, with their bounds.
#[derive(Debug)]
pub(super) struct Scans<'a> {
    bounds: Vec<Bounds>,
    presence: BTreeMap<u64, Presence>,
    deletes: Deletes<'a>,
}

/// The earlier of two times that may be unknown.
fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

fn is_before(time: Option<u64>, bound: u64) -> bool {
    time.is_some_and(|time| time < bound)
}

impl<'a> Scans<'a> {
    pub(super) fn of(members: &Members<'a>) -> Self {
        let deletes = members.elements.keys().filter_map(|e| Some((*e, members.delete(*e)?)));
        let deletes: Deletes<'_> = deletes.collect();
        let scans = 0..members.scans.len();
        let bounds: Vec<Bounds> = scans.map(|at| bounds(members, &deletes, at)).collect();
        let presence = members
            .elements
            .iter()
            .map(|(element, known)| {
                (*element, presence(members, &bounds, &deletes, *element, known))
            })
            .collect();
        Self { bounds, presence, deletes }
    }

    pub(super) fn evidence(&self, members: &Members<'_>) -> Vec<Evidence> {
        let mut found: Vec<Evidence> = members.duplicates().collect();
        let mut once: BTreeMap<(Anomaly, u64), Evidence> = BTreeMap::new();
        for scan in 0..members.scans.len() {
            for element in members.scans[scan].elements() {
                if let Some(one) = self.wrongly_shown(members, scan, *element) {
                    once.entry((one.anomaly, *element)).or_insert(one);
                }
            }
            for (element, known) in &members.elements {
                if let Some(one) = self.wrongly_missed(members, scan, *element, known) {
                    once.entry((one.anomaly, *element)).or_insert(one);
                }
            }
        }
        found.extend(once.into_values());
        found.extend(fork(members, &self.deletes));
        found
    }

    fn wrongly_shown(&self, members: &Members<'_>, scan: usize, element: u64) -> Option<Evidence> {
        let reader = members.scans[scan].operation.id;
        let known = members.elements.get(&element).copied().unwrap_or_default();
        let end = members.scans[scan].operation.settled_ns().unwrap_or(u64::MAX);
        let Some(add) = known.possible_add().filter(|add| add.invoked_ns <= end) else {
            let detail = format!("element {element} is shown, and was not added until then");
            let writer = known.add.map(|add| add.id);
            let operations: Vec<OpId> = writer.into_iter().chain([reader]).collect();
            return Some(Evidence::new(Anomaly::Phantom, members.subject(), operations, detail));
        };
        let deleted = deleted_by(&self.deletes, element);
        let gone_by = self.presence.get(&element).and_then(|presence| presence.gone_by);
        let detail = format!("element {element} is shown after it was deleted");
        let delete = known.delete.map(|delete| delete.id);
        let operations: Vec<OpId> = [add.id].into_iter().chain(delete).chain([reader]).collect();
        is_before(earlier(deleted, gone_by), self.bounds[scan].lower)
            .then(|| Evidence::new(Anomaly::Resurrected, members.subject(), operations, detail))
    }

    fn wrongly_missed(
        &self,
        members: &Members<'_>,
        scan: usize,
        element: u64,
        known: &Element<'_>,
    ) -> Option<Evidence> {
        if !self.is_wrongly_missed(members, scan, element) {
            return None;
        }
        let comes_back =
            self.presence[&element].last_shown.is_some_and(|last| self.bounds[scan].upper < last);
        let (anomaly, detail) = if comes_back {
            (Anomaly::Stale, format!("element {element} is missing, and shown later"))
        } else {
            (Anomaly::Lost, format!("element {element} is missing, and was not deleted"))
        };
        let add = known.add.map(|add| add.id);
        let operations: Vec<OpId> =
            add.into_iter().chain([members.scans[scan].operation.id]).collect();
        Some(Evidence::new(anomaly, members.subject(), operations, detail))
    }

    fn is_wrongly_missed(&self, members: &Members<'_>, scan: usize, element: u64) -> bool {
        let bounds = self.bounds[scan];
        let was_there = is_before(self.presence[&element].there_by, bounds.lower);
        let is_missing = !members.scans[scan].shows(element);
        let may_be_deleted =
            self.deletes.get(&element).is_some_and(|d| d.operation.invoked_ns <= bounds.upper);
        was_there && is_missing && !may_be_deleted
    }

    /// Returns how many elements were missed and came back, and the longest time that one took.
    pub(super) fn staleness(&self, members: &Members<'_>) -> (u64, u64) {
        let (mut elements, mut longest_ns) = (0, 0);
        for element in members.elements.keys() {
            let Presence { there_by: Some(there_by), last_shown, .. } = self.presence[element]
            else {
                continue;
            };
            let stale = (0..members.scans.len()).filter(|scan| {
                let comes_back = last_shown.is_some_and(|last| self.bounds[*scan].upper < last);
                comes_back && self.is_wrongly_missed(members, *scan, *element)
            });
            let late_ns = stale.map(|scan| self.bounds[scan].lower - there_by).max();
            elements += u64::from(late_ns.is_some());
            longest_ns = longest_ns.max(late_ns.unwrap_or(0));
        }
        (elements, longest_ns)
    }
}

fn bounds(members: &Members<'_>, deletes: &Deletes<'_>, scan: usize) -> Bounds {
    let scan = &members.scans[scan];
    let mut lower = scan.operation.invoked_ns;
    let mut upper = scan.operation.settled_ns().unwrap_or(u64::MAX);
    for (element, known) in &members.elements {
        let is_shown = scan.shows(*element);
        let added = known.possible_add();
        let is_kept = !deletes.contains_key(element);
        // Shown: after its add began, before its delete was over. Missing and never deleted: before its
        // add was over.
        let end = match (is_shown, is_kept) {
            (true, _) => deleted_by(deletes, *element),
            (false, true) => added.and_then(Operation::settled_ns),
            (false, false) => None,
        };
        upper = end.map_or(upper, |end| upper.min(end));
        if let Some(add) = added.filter(|_| is_shown) {
            lower = lower.max(add.invoked_ns);
        }
    }
    // Where they contradict each other, one of the elements that made them is wrongly shown or missed.
    Bounds { lower, upper }
}

fn presence(
    members: &Members<'_>,
    bounds: &[Bounds],
    deletes: &Deletes<'_>,
    element: u64,
    known: &Element<'_>,
) -> Presence {
    let scans = || members.scans.iter().zip(bounds);
    let shown = || scans().filter(|(scan, _)| scan.shows(element));
    let added = known.possible_add().and_then(Operation::settled_ns);
    let there_by = earlier(added, shown().map(|(_, bounds)| bounds.upper).min());
    let missing = scans().filter(|(scan, _)| !scan.shows(element));
    let gone = missing.filter(|(_, bounds)| is_before(there_by, bounds.lower));
    let gone_by = gone.map(|(_, bounds)| bounds.upper).min();
    let gone_by = gone_by.filter(|_| deletes.contains_key(&element));
    Presence { there_by, gone_by, last_shown: shown().map(|(_, bounds)| bounds.lower).max() }
}

/// Scans of elements that are never deleted see growing sets. Two of which neither holds the other's have seen
/// two adds in two orders.
fn fork(members: &Members<'_>, deletes: &Deletes<'_>) -> Option<Evidence> {
    let is_kept =
        |element: &&u64| members.elements.contains_key(element) && !deletes.contains_key(element);
    let mut kept: Vec<(usize, usize)> = members
        .scans
        .iter()
        .enumerate()
        .map(|(at, scan)| (scan.elements().iter().filter(is_kept).count(), at))
        .collect();
    kept.sort_unstable();
    kept.iter().zip(kept.iter().skip(1)).find_map(|((_, smaller), (_, larger))| {
        let (smaller, larger) = (&members.scans[*smaller], &members.scans[*larger]);
        let mut only = smaller.elements().iter().filter(is_kept);
        let element = only.find(|element| !larger.shows(**element))?;
        let detail = format!("two scans saw adds in two orders: {element} is in one of them only");
        let operations = [smaller.operation.id, larger.operation.id];
        Some(Evidence::new(Anomaly::IncompatibleOrder, members.subject(), operations, detail))
    })
}
