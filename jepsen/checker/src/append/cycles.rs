//! Cycles of dependencies, and the class of each.
//!
//! It must not report a component twice: its worst cycle speaks for it. Invariant: the class of a cycle is
//! the strongest promise that it breaks; where a component is too large to look at every edge the class may
//! be a weaker one, and the verdict is the same.

use std::collections::{BTreeMap, VecDeque};

use super::graph::{Edge, Graph, Kind, Kinds, Part};
use crate::history::OpId;
use crate::verdict::{Anomaly, Cycle, CycleClass, CycleOrder, Evidence};

/// From how many nodes or edges of a component the shortest cycle is sought.
const STARTS_MAX: usize = 128;

/// No cycle is shorter.
const EDGES_MIN: usize = 2;

const WW: Kinds = Kinds::of(&[Kind::WriteWrite]);
const WW_WR: Kinds = Kinds::of(&[Kind::WriteWrite, Kind::WriteRead]);
const DATA: Kinds = Kinds::of(&[Kind::WriteWrite, Kind::WriteRead, Kind::ReadWrite]);
const PROCESS: Kinds = Kinds::of(&[Kind::Process]);
const REALTIME: Kinds = Kinds::of(&[Kind::Process, Kind::Realtime]);

const ALL: Kinds = DATA.with(REALTIME);

/// What each order adds to the edges of data, the strongest anomaly first.
const ORDERS: [(CycleOrder, Kinds); 3] = [
    (CycleOrder::Data, Kinds::of(&[])),
    (CycleOrder::Process, PROCESS),
    (CycleOrder::Realtime, REALTIME),
];

/// Returns one cycle for each component of the graph.
pub(super) fn find(graph: &Graph) -> Vec<Evidence> {
    let whole = Part::of(graph, (0..graph.nodes()).collect(), ALL);
    whole.components().into_iter().map(|nodes| worst(&Part::of(graph, nodes, ALL))).collect()
}

fn worst(component: &Part<'_>) -> Evidence {
    for (order, more) in ORDERS {
        let with = |kinds: Kinds| component.with_kinds(kinds.with(more));
        let found = shortest(&with(WW))
            .map(|path| (CycleClass::G0, path))
            .or_else(|| shortest(&with(WW_WR)).map(|path| (CycleClass::G1c, path)))
            .or_else(|| single(&with(DATA), &with(WW_WR)).map(|path| (CycleClass::GSingle, path)))
            .or_else(|| shortest(&with(DATA)).map(|path| (CycleClass::G2Item, path)));
        if let Some((class, path)) = found {
            return evidence(Cycle { class, order }, &path);
        }
    }
    unreachable!("a component has a cycle")
}

/// A cycle as its edges; the last leads to where the first starts.
type Path = Vec<Edge>;

fn evidence(cycle: Cycle, path: &Path) -> Evidence {
    let start = path.last().map(|edge| edge.to).unwrap_or_default();
    let steps: Vec<String> = path.iter().map(Edge::to_string).collect();
    let detail = format!("{start} {}", steps.join(" "));
    let operations: Vec<OpId> = path.iter().map(|edge| OpId(edge.to)).collect();
    Evidence::new(Anomaly::Cycle(cycle), "transactions", operations, detail)
}

/// The shortest cycle in `part`, from some of the nodes that are on one.
fn shortest(part: &Part<'_>) -> Option<Path> {
    let mut best: Option<Path> = None;
    for nodes in part.components() {
        for node in nodes.into_iter().take(STARTS_MAX) {
            if best.as_ref().is_some_and(|best| best.len() == EDGES_MIN) {
                return best;
            }
            let found = path(part, node, node);
            let is_better = |found: &Path| best.as_ref().is_none_or(|b| found.len() < b.len());
            if let Some(found) = found.filter(is_better) {
                best = Some(found);
            }
        }
    }
    best
}

/// The shortest cycle with one write over a read, whose other edges are in `rest`.
fn single(part: &Part<'_>, rest: &Part<'_>) -> Option<Path> {
    let over_reads = part.nodes().iter().flat_map(|&node| {
        part.edges(node).filter(|edge| edge.kind == Kind::ReadWrite).map(move |edge| (node, edge))
    });
    let close = |(from, edge): (usize, &Edge)| {
        let mut found = path(rest, edge.to, from)?;
        found.push(*edge);
        Some(found)
    };
    over_reads.take(STARTS_MAX).filter_map(close).min_by_key(Vec::len)
}

/// The shortest way from one node to another, of one edge or more.
fn path(part: &Part<'_>, from: usize, to: usize) -> Option<Path> {
    let mut came_by = BTreeMap::new();
    let mut waiting = VecDeque::from([from]);
    while let Some(node) = waiting.pop_front() {
        for edge in part.edges(node) {
            if came_by.contains_key(&edge.to) {
                continue;
            }
            came_by.insert(edge.to, (node, *edge));
            if edge.to == to {
                return Some(trace(&came_by, from, to));
            }
            waiting.push_back(edge.to);
        }
    }
    None
}

fn trace(came_by: &BTreeMap<usize, (usize, Edge)>, from: usize, to: usize) -> Path {
    let mut found = Vec::new();
    let mut node = to;
    loop {
        let (before, edge) = came_by[&node];
        found.push(edge);
        node = before;
        if node == from {
            found.reverse();
            return found;
        }
    }
}
