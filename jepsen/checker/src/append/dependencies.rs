//! Who must come before whom: by the orders of the lists, by process, by real time.
//!
//! It must not add an edge for what may not have happened. Invariant: both ends of an edge are transactions
//! that took effect.

use std::collections::BTreeMap;

use super::graph::{Edge, Graph, Kind};
use super::lists::{List, Lists};
use super::reads::Reads;
use crate::history::{History, Operation, ProcessId};

/// Builds the graph of all transactions that took effect.
pub(super) fn graph(history: &History, reads: &Reads<'_>, lists: &Lists<'_>) -> Graph {
    let mut graph = Graph::of(history.operations().len());
    for list in lists.all.iter().filter(|list| list.has_order()) {
        add_list(&mut graph, list, reads);
    }
    let committed: Vec<&Operation> =
        history.operations().iter().filter(|op| lists.committed.contains(&op.id)).collect();
    add_processes(&mut graph, &committed);
    add_realtime(&mut graph, &committed);
    graph
}

fn add_list(graph: &mut Graph, list: &List<'_>, reads: &Reads<'_>) {
    let node = |value: u64| {
        let writer = reads.writers.get(&(list.key, value))?.operation;
        (!writer.is_failed()).then_some(writer.id.0)
    };
    let edge = |to, kind, value| Edge { to, kind, why: Some((list.key, value)) };
    let order = list.longest.list;
    for (one, next) in order.iter().zip(order.iter().skip(1)) {
        if let (Some(from), Some(to)) = (node(*one), node(*next)) {
            graph.add(from, edge(to, Kind::WriteWrite, *next));
        }
    }
    let last = order.last().and_then(|value| node(*value));
    for (value, writer) in &list.unread {
        if let Some(from) = last {
            graph.add(from, edge(writer.id.0, Kind::WriteWrite, *value));
        }
    }
    for read in &list.reads {
        let reader = read.reader.id.0;
        let seen = read.before().last().and_then(|value| Some((*value, node(*value)?)));
        if let Some((value, writer)) = seen {
            graph.add(writer, edge(reader, Kind::WriteRead, value));
        }
        let next = order.get(read.before().len());
        if let Some((value, writer)) = next.and_then(|value| Some((*value, node(*value)?))) {
            graph.add(reader, edge(writer, Kind::ReadWrite, value));
        }
        if next.is_none() {
            for (value, writer) in &list.unread {
                graph.add(reader, edge(writer.id.0, Kind::ReadWrite, *value));
            }
        }
    }
}

/// Each transaction of a process comes before its next one.
fn add_processes(graph: &mut Graph, committed: &[&Operation]) {
    let mut last: BTreeMap<ProcessId, usize> = BTreeMap::new();
    for operation in committed {
        let to = operation.id.0;
        if let Some(from) = last.insert(operation.process, to) {
            graph.add(from, Edge { to, kind: Kind::Process, why: None });
        }
    }
}

/// What is over when another begins comes before it. Edges that follow from others are left out: only those
/// from operations that nothing between has taken note of.
fn add_realtime(graph: &mut Graph, committed: &[&Operation]) {
    let mut moments: Vec<(u64, bool, usize)> = Vec::new();
    for (position, operation) in committed.iter().enumerate() {
        moments.push((operation.invoked_ns, false, position));
        moments.extend(operation.settled_ns().map(|end| (end, true, position)));
    }
    // At the same instant calls come first: what only touches is concurrent.
    moments.sort_unstable();
    let mut frontier: Vec<usize> = Vec::new();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); committed.len()];
    for (_, is_end, position) in moments {
        if is_end {
            let covered = std::mem::take(&mut before[position]);
            frontier.retain(|earlier| !covered.contains(earlier));
            frontier.push(position);
            continue;
        }
        let to = committed[position].id.0;
        for earlier in &frontier {
            graph.add(committed[*earlier].id.0, Edge { to, kind: Kind::Realtime, why: None });
        }
        before[position].clone_from(&frontier);
    }
}
