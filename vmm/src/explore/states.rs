//! The states seen so far: hashes, and how each was reached.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::inject::Kind;

/// A state's number, in the order of discovery.
pub type Id = u32;

/// What leads from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// One instruction (and the blocked chain behind it).
    Step,
    /// Something arrives.
    Event(Kind),
}

/// Where a state's instruction edge leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not looked at yet.
    Unknown,
    /// To another state.
    State(Id),
    /// To the scenario's end.
    End,
    /// To a verdict that is no pass.
    Fails,
}

#[derive(Clone, Copy)]
struct Node {
    parent: Id,
    edge: Edge,
    next: Next,
}

/// A hash is as good a hash as any.
#[derive(Default)]
pub struct Low64(u64);

impl Hasher for Low64 {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for (i, b) in bytes.iter().take(8).enumerate() {
            self.0 |= u64::from(*b) << (8 * i);
        }
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

impl Edge {
    /// An NMI arrives.
    pub const NMI: Self = Edge::Event(Kind::Nmi);

    /// What arrives, where something does.
    pub fn event(self) -> Option<Kind> {
        match self {
            Edge::Step => None,
            Edge::Event(kind) => Some(kind),
        }
    }
}

/// The visited set.
#[derive(Default)]
pub struct States {
    ids: HashMap<u128, Id, BuildHasherDefault<Low64>>,
    nodes: Vec<Node>,
    /// Edges from their parents to states that were reached by several.
    ways: HashMap<Id, Box<[Edge]>>,
}

impl States {
    /// How many states there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The state with this hash.
    pub fn get(&self, hash: u128) -> Option<Id> {
        self.ids.get(&hash).copied()
    }

    /// Adds a state; `None` where it is known.
    pub fn add(&mut self, hash: u128, parent: Id, edge: Edge) -> Option<Id> {
        let id = self.nodes.len() as Id;
        match self.ids.entry(hash) {
            std::collections::hash_map::Entry::Occupied(_) => None,
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(id);
                self.nodes.push(Node { parent, edge, next: Next::Unknown });
                Some(id)
            }
        }
    }

    /// Adds a state that several edges lead to from `parent`; `None` where it is known.
    pub fn add_by(&mut self, hash: u128, parent: Id, way: &[Edge]) -> Option<Id> {
        let id = self.add(hash, parent, *way.first()?)?;
        self.ways.insert(id, way.into());
        Some(id)
    }

    /// Sets where a state's instruction edge leads.
    pub fn set_next(&mut self, id: Id, next: Next) {
        self.nodes[id as usize].next = next;
    }

    /// The edges from the first state to this one.
    pub fn path(&self, mut id: Id) -> Vec<Edge> {
        let mut out = Vec::new();
        while id != 0 {
            let node = &self.nodes[id as usize];
            match self.ways.get(&id) {
                Some(way) => out.extend(way.iter().rev()),
                None => out.push(node.edge),
            }
            id = node.parent;
        }
        out.reverse();
        out
    }

    /// A state from which, with nothing more arriving, the run neither ends nor
    /// fails: the first in the order of discovery that lies on a cycle.
    ///
    /// Instruction edges are a function, so one pass over the states finds all cycles.
    pub fn first_on_cycle(&self) -> Option<Id> {
        const UNSEEN: u32 = 0;
        let mut walk_of = vec![UNSEEN; self.nodes.len()];
        let mut best = None;
        for start in 0..self.nodes.len() {
            let walk = start as u32 + 1;
            let mut at = start;
            while walk_of[at] == UNSEEN {
                walk_of[at] = walk;
                match self.nodes[at].next {
                    Next::State(next) => at = next as usize,
                    _ => break,
                }
            }
            // Back in a state of this very walk: it lies on a cycle.
            if walk_of[at] == walk && matches!(self.nodes[at].next, Next::State(_)) {
                let id = at as Id;
                best = Some(best.map_or(id, |b: Id| b.min(id)));
            }
        }
        best
    }

    /// Where a run from this state goes with nothing more arriving.
    pub fn outcome(&self, id: Id) -> Next {
        let mut at = id;
        for _ in 0..self.nodes.len() {
            match self.nodes[at as usize].next {
                Next::State(next) => at = next,
                other => return other,
            }
        }
        Next::State(at) // round and round
    }

    /// Bytes that the set takes in addition while it grows, where it does so within the next few
    /// states: a table and a list move to twice their room.
    pub fn growth(&self) -> usize {
        const FEW: usize = 1 << 15;
        let grows = |len: usize, capacity: usize| len + FEW > capacity;
        let table = self.ids.capacity() * 8 / 7 * (size_of::<(u128, Id)>() + 1);
        let list = self.nodes.capacity() * size_of::<Node>();
        2 * table * usize::from(grows(self.ids.len(), self.ids.capacity()))
            + 2 * list * usize::from(grows(self.nodes.len(), self.nodes.capacity()))
    }

    /// Bytes of memory that the set takes.
    pub fn bytes(&self) -> usize {
        // A control byte and the pair for each slot; the table holds a power of two.
        self.ids.capacity() * 8 / 7 * (size_of::<(u128, Id)>() + 1) + self.nodes.capacity() * size_of::<Node>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(next: &[Next]) -> States {
        let mut s = States::default();
        for (i, n) in next.iter().enumerate() {
            let id = s.add(i as u128, 0, Edge::Step).unwrap();
            s.set_next(id, *n);
        }
        s
    }

    #[test]
    fn a_cycle_is_found_and_a_path_to_the_end_is_none() {
        assert_eq!(chain(&[Next::State(1), Next::State(2), Next::End]).first_on_cycle(), None);
        assert_eq!(chain(&[Next::State(1), Next::State(2), Next::State(1)]).first_on_cycle(), Some(1));
        assert_eq!(chain(&[Next::State(0)]).first_on_cycle(), Some(0));
        assert_eq!(chain(&[Next::State(1), Next::Fails, Next::State(1)]).first_on_cycle(), None);
    }

    #[test]
    fn a_path_is_read_from_the_first_state_on() {
        let mut s = States::default();
        s.add(7, 0, Edge::Step);
        s.add(8, 0, Edge::NMI);
        let id = s.add(9, 1, Edge::Step).unwrap();
        assert_eq!(s.path(id), [Edge::NMI, Edge::Step]);
        assert_eq!(s.add(9, 1, Edge::NMI), None);
    }
}
