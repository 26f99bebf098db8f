//! The graph that a search leaves: the shortest way to each state as a schedule, and the states
//! from which the interrupted code is never come back to.

use std::collections::HashMap;

use crate::inject::{At, Event, Kind};

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
}

impl Edge {
    fn kind(self) -> Option<Kind> {
        match self {
            Edge::Start | Edge::On => None,
            Edge::Nmi | Edge::Latch => Some(Kind::Nmi),
            Edge::Unmask => Some(Kind::Unmask),
            Edge::Fault => Some(Kind::Fault),
        }
    }

    /// Whether execution then stands at another boundary.
    fn moves(self) -> bool {
        !matches!(self, Edge::Latch | Edge::Unmask)
    }
}

/// A state, as the graph has it.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub parent: u32,
    pub edge: Edge,
    /// RIP.
    pub addr: u64,
    /// The state that follows if nothing arrives.
    pub quiet: u32,
    /// The interrupted code goes on here.
    pub home: bool,
    /// NMIs on the way here.
    pub arrivals: u32,
}

/// The events of the shortest way to a state, and then of one more edge.
pub fn schedule(nodes: &[Node], to: u32, last: Edge) -> Vec<Event> {
    let mut way = vec![to];
    while let Some(parent) = way.last().map(|n| nodes[*n as usize].parent).filter(|n| *n != NONE) {
        way.push(parent);
    }
    way.reverse();
    let (mut visits, mut events) = (HashMap::<u64, u32>::new(), Vec::new());
    let edges = way.iter().skip(1).map(|n| nodes[*n as usize].edge).chain([last]);
    for (node, edge) in way.iter().zip(edges) {
        let node = &nodes[*node as usize];
        if node.edge.moves() {
            *visits.entry(node.addr).or_default() += 1;
        }
        let at = At { addr: node.addr, n: visits[&node.addr] };
        events.extend(edge.kind().map(|kind| Event { kind, at }));
    }
    events
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

    fn node(parent: u32, edge: Edge, addr: u64, quiet: u32, home: bool) -> Node {
        Node { parent, edge, addr, quiet, home, arrivals: 0 }
    }

    #[test]
    fn a_path_is_a_schedule_and_a_ring_is_a_livelock() {
        let nodes = [
            node(NONE, Edge::Start, 0x10, NONE, true),
            node(0, Edge::Nmi, 0x20, 2, false),
            node(1, Edge::On, 0x30, 0, false),
            node(2, Edge::Unmask, 0x30, 4, false),
            node(3, Edge::Nmi, 0x20, 5, false),
            node(4, Edge::On, 0x30, 4, false),
        ];
        let event = |kind, addr, n| Event { kind, at: At { addr, n } };
        let way = [event(Kind::Nmi, 0x10, 1), event(Kind::Unmask, 0x30, 1), event(Kind::Nmi, 0x30, 1)];
        assert_eq!(schedule(&nodes, 5, Edge::On), way);
        assert_eq!(schedule(&nodes, 5, Edge::Fault)[3], event(Kind::Fault, 0x30, 2));
        assert_eq!(livelock(&nodes[..3]), None);
        assert_eq!(livelock(&nodes), Some(3));
    }
}
