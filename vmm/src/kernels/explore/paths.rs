//! The graph that a search leaves: the shortest way to each state, and the states from which the
//! interrupted code is never come back to.

use crate::inject::Kind;

/// No state.
pub const NONE: u32 = u32::MAX;

/// How a state was come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It is where the search begins.
    Start,
    /// By an instruction, or by the delivery of a latched NMI.
    On,
    /// An NMI arrived, and was delivered.
    Nmi,
    /// An NMI arrived, and is latched.
    Latch,
    /// NMIs were unblocked.
    Unmask,
    /// The instruction faulted.
    Fault,
    /// All that NMIs do between the delivery of one and its return, by number of the way.
    Through(u32),
}

impl Edge {
    /// What arrives by it.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Edge::Start | Edge::On | Edge::Through(_) => None,
            Edge::Nmi | Edge::Latch => Some(Kind::Nmi),
            Edge::Unmask => Some(Kind::Unmask),
            Edge::Fault => Some(Kind::Fault),
        }
    }
}

/// A state, as the graph has it.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub parent: u32,
    pub edge: Edge,
    /// The instructions executed by that edge, as a number.
    pub code: u64,
    /// The state that follows if nothing arrives.
    pub quiet: u32,
    /// The interrupted code goes on here.
    pub home: bool,
    /// NMIs on the way here.
    pub arrivals: u32,
    /// Instructions on the way here.
    pub instructions: u32,
}

impl Node {
    /// The state that a search begins with.
    pub fn root() -> Self {
        Self { parent: NONE, edge: Edge::Start, code: 0, quiet: NONE, home: true, arrivals: 0, instructions: 0 }
    }

    /// The state that an edge with so many NMIs and instructions leads to, from this one, whose number
    /// is `parent`.
    pub fn then(&self, parent: u32, edge: Edge, code: u64, (nmis, instructions): (u32, u32)) -> Self {
        let arrivals = self.arrivals + nmis;
        let instructions = self.instructions.saturating_add(instructions);
        Self { parent, edge, code, quiet: NONE, home: false, arrivals, instructions }
    }
}

/// The edges of the way to a state; `ways` are those that NMIs can take.
pub fn way(nodes: &[Node], ways: &[Vec<Edge>], to: u32) -> Vec<Edge> {
    let mut edges = Vec::new();
    let mut at = to;
    while nodes[at as usize].parent != NONE {
        edges.push(nodes[at as usize].edge);
        at = nodes[at as usize].parent;
    }
    let whole = |edge: &Edge| match edge {
        Edge::Through(n) => ways[*n as usize].clone(),
        edge => vec![*edge],
    };
    edges.iter().rev().flat_map(whole).collect()
}

/// The first state from which the interrupted code is never come back to, though nothing more
/// arrives.
pub fn livelock(nodes: &[Node]) -> Option<u32> {
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate().filter(|(_, n)| n.quiet != NONE) {
        before[node.quiet as usize].push(i as u32);
    }
    let mut ends: Vec<bool> = nodes.iter().map(|n| n.home).collect();
    let mut left: Vec<u32> = (0..nodes.len() as u32).filter(|i| nodes[*i as usize].home).collect();
    while let Some(node) = left.pop() {
        for from in &before[node as usize] {
            if !std::mem::replace(&mut ends[*from as usize], true) {
                left.push(*from);
            }
        }
    }
    ends.iter().position(|ends| !ends).map(|i| i as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: u32, edge: Edge, quiet: u32, home: bool) -> Node {
        Node { parent, edge, quiet, home, ..Node::root() }
    }

    #[test]
    fn a_path_is_a_way_and_a_ring_is_a_livelock() {
        let nodes = [
            node(NONE, Edge::Start, NONE, true),
            node(0, Edge::Nmi, 2, false),
            node(1, Edge::On, 0, false),
            node(2, Edge::Unmask, 4, false),
            node(3, Edge::Through(1), 5, false),
            node(4, Edge::On, 4, false),
        ];
        let ways = [vec![], vec![Edge::Nmi, Edge::On, Edge::On]];
        let way = way(&nodes, &ways, 5);
        assert_eq!(way, [Edge::Nmi, Edge::On, Edge::Unmask, Edge::Nmi, Edge::On, Edge::On, Edge::On]);
        assert_eq!(livelock(&nodes[..3]), None);
        assert_eq!(livelock(&nodes), Some(3));
    }
}
