//! The states that a search has found, and those that it is still to go on from.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::paths::{Edge, Node};
use super::state::State;
use crate::oracle::Verdict;

/// The states found, and those to be gone on from.
pub struct Graph {
    pub nodes: Vec<Node>,
    pub known: HashMap<u128, u32>,
    pub frontier: Frontier,
}

/// States to be gone on from: those with the fewest NMIs first, and of these those with the fewest
/// instructions.
#[derive(Default)]
pub struct Frontier {
    waves: BTreeMap<(u32, u32), VecDeque<(u32, State)>>,
    len: usize,
}

impl Frontier {
    /// Adds one that was come to by so many NMIs and instructions.
    pub fn push(&mut self, at: (u32, u32), number: u32, state: State) {
        self.waves.entry(at).or_default().push_back((number, state));
        self.len += 1;
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<(u32, State)> {
        let mut wave = self.waves.first_entry()?;
        let next = wave.get_mut().pop_front();
        if wave.get().is_empty() {
            wave.remove();
        }
        self.len -= usize::from(next.is_some());
        next
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// How a search ends.
pub enum End {
    /// Nothing new appears.
    Closed,
    /// A rule is broken in a state, by number, or by one more edge from there.
    Broken(Verdict, u32, Edge),
    /// Nothing can be claimed, and why.
    Open(String),
    /// A limit was hit.
    Bound(String),
}

impl Graph {
    /// The graph of a search that begins in `start`.
    pub fn of(start: State) -> Self {
        let known = HashMap::from([(start.hash(), 0)]);
        let mut frontier = Frontier::default();
        frontier.push((0, 0), 0, start);
        Self { nodes: vec![Node::root()], known, frontier }
    }

    /// An edge has led to `next`. Whether it is a new state.
    pub fn arrive(&mut self, from: u32, edge: Edge, (nmis, instructions): (u32, u32), code: u64, next: State) -> bool {
        let new = self.nodes.len() as u32;
        let to = *self.known.entry(next.hash()).or_insert(new);
        if edge == Edge::On {
            self.nodes[from as usize].quiet = to;
        }
        if to == new {
            let node = self.nodes[from as usize].then(from, edge, code, (nmis, instructions));
            self.frontier.push((node.arrivals, node.instructions), new, next);
            self.nodes.push(node);
        }
        to == new
    }
}

/// NMIs that arrive by an edge.
pub fn nmis(edge: Edge) -> u32 {
    u32::from(matches!(edge, Edge::Nmi | Edge::Latch))
}
