//! A graph of transactions, and its strongly connected components.
//!
//! It must not recurse: a history is longer than a stack is deep. Invariant: no edge leads from a node to
//! itself.

use std::fmt;

/// Why one transaction comes before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It wrote what the other wrote over.
    WriteWrite,
    /// It wrote what the other read.
    WriteRead,
    /// It read what the other wrote over.
    ReadWrite,
    /// The same process called it before.
    Process,
    /// It was over before the other was called.
    Realtime,
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    pub(super) const fn of(kinds: &[Kind]) -> Self {
        let (mut set, mut position) = (0, 0);
        while position < kinds.len() {
            set |= 1 << kinds[position] as u8;
            position += 1;
        }
        Self(set)
    }

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// An edge, and for dependencies on data the list and value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) to: usize,
    pub(super) kind: Kind,
    pub(super) why: Option<(u64, u64)>,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::WriteWrite => "ww",
            Kind::WriteRead => "wr",
            Kind::ReadWrite => "rw",
            Kind::Process => "process",
            Kind::Realtime => "realtime",
        };
        match self.why {
            Some((key, value)) => write!(f, "-{name}(list {key}, value {value})-> {}", self.to),
            None => write!(f, "-{name}-> {}", self.to),
        }
    }
}

/// Edges by the node that they leave. A node is the position of an operation in the history.
#[derive(Debug)]
pub(super) struct Graph {
    edges: Vec<Vec<Edge>>,
}

impl Graph {
    pub(super) fn of(nodes: usize) -> Self {
        Self { edges: vec![Vec::new(); nodes] }
    }

    /// Adds an edge, unless it would lead back to its own node.
    pub(super) fn add(&mut self, from: usize, edge: Edge) {
        if from != edge.to {
            self.edges[from].push(edge);
        }
    }

    pub(super) fn nodes(&self) -> usize {
        self.edges.len()
    }

    pub(super) fn from(&self, node: usize) -> &[Edge] {
        &self.edges[node]
    }
}

/// A part of a graph: some nodes, some kinds of edges.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    graph: &'a Graph,
    nodes: Vec<usize>,
    is_inside: Vec<bool>,
    kinds: Kinds,
}

impl<'a> Part<'a> {
    pub(super) fn of(graph: &'a Graph, nodes: Vec<usize>, kinds: Kinds) -> Self {
        let mut is_inside = vec![false; graph.nodes()];
        nodes.iter().for_each(|&node| is_inside[node] = true);
        Self { graph, nodes, is_inside, kinds }
    }

    /// Returns the same nodes with other edges.
    pub(super) fn with_kinds(&self, kinds: Kinds) -> Self {
        Self { kinds, ..self.clone() }
    }

    pub(super) fn nodes(&self) -> &[usize] {
        &self.nodes
    }

    pub(super) fn edges(&self, node: usize) -> impl Iterator<Item = &'a Edge> {
        let graph = self.graph;
        graph.from(node).iter().filter(|e| self.kinds.contains(e.kind) && self.is_inside[e.to])
    }

    /// Returns the strongly connected components of two nodes or more: those with cycles.
    pub(super) fn components(&self) -> Vec<Vec<usize>> {
        let mut walk = Walk::of(self.graph.nodes());
        for &node in &self.nodes {
            if walk.found_at[node] == UNSEEN {
                walk.visit(self, node);
            }
        }
        walk.components
    }
}

const UNSEEN: usize = usize::MAX;

/// The depth-first walk of Tarjan, "Depth-first search and linear graph algorithms" (1972).
struct Walk {
    found_at: Vec<usize>,
    /// The earliest node that is known to be reachable and not in a component yet.
    earliest: Vec<usize>,
    is_open: Vec<bool>,
    open: Vec<usize>,
    count: usize,
    components: Vec<Vec<usize>>,
}

impl Walk {
    fn of(nodes: usize) -> Self {
        Self {
            found_at: vec![UNSEEN; nodes],
            earliest: vec![UNSEEN; nodes],
            is_open: vec![false; nodes],
            open: Vec::new(),
            count: 0,
            components: Vec::new(),
        }
    }

    fn visit(&mut self, part: &Part<'_>, root: usize) {
        let mut path = vec![(root, self.enter(part, root))];
        while let Some((node, targets)) = path.last_mut() {
            let node = *node;
            let Some(target) = targets.pop() else {
                path.pop();
                self.leave(node);
                if let Some((parent, _)) = path.last() {
                    self.earliest[*parent] = self.earliest[*parent].min(self.earliest[node]);
                }
                continue;
            };
            if self.found_at[target] == UNSEEN {
                path.push((target, self.enter(part, target)));
            } else if self.is_open[target] {
                self.earliest[node] = self.earliest[node].min(self.found_at[target]);
            }
        }
    }

    /// Opens `node`; returns where it leads.
    fn enter(&mut self, part: &Part<'_>, node: usize) -> Vec<usize> {
        (self.found_at[node], self.earliest[node]) = (self.count, self.count);
        self.count += 1;
        self.is_open[node] = true;
        self.open.push(node);
        part.edges(node).map(|edge| edge.to).collect()
    }

    /// Closes the component of which `node` is the first.
    fn leave(&mut self, node: usize) {
        if self.earliest[node] != self.found_at[node] {
            return;
        }
        let start = self.open.iter().rposition(|&open| open == node).expect("it is open");
        let component = self.open.split_off(start);
        component.iter().for_each(|&member| self.is_open[member] = false);
        if component.len() > 1 {
            self.components.push(component);
        }
    }
}
