//! What a chain depends on: chains that depend on the same are stepped once.
//!
//! Stepping a blocked chain shows what it looks at; running it freely is ten times as fast.
//! What a chain does follows from the registers and the ghost state that it begins with, and
//! from the words of memory that it reads before it writes them: operands, frames,
//! page tables, descriptors. Those words are its *footprint*. A chain that begins with the registers and the
//! ghost state of one that was stepped, and finds the same in its footprint, executes the same
//! instructions with the same values. Stepping it would show nothing new, whatever else
//! differs between the episodes that they belong to.

use std::collections::HashMap;

use super::states::{Edge, Low64};

/// A set of words of the writable pages, by number: bit `i % 64` of element `i / 64`.
pub type WordSet = Vec<u64>;

/// Whether a set has a word.
pub fn has(set: &[u64], index: usize) -> bool {
    set[index / 64] >> (index % 64) & 1 != 0
}

/// Adds a word to a set. Whether it is new there.
pub fn insert(set: &mut [u64], index: usize) -> bool {
    let new = !has(set, index);
    set[index / 64] |= 1 << (index % 64);
    new
}

/// Where a chain begins: instruction, edge, and a hash of registers and ghost state.
#[derive(Clone, Copy)]
pub struct Start {
    /// The instruction that it begins at.
    pub rip: u64,
    /// How it begins.
    pub edge: Edge,
    /// Registers, mask, latch and ghost state.
    pub hash: u128,
}

/// The chains that were stepped.
#[derive(Default)]
pub struct Footprints {
    /// Sets of words that chains read, each kept once.
    sets: Vec<WordSet>,
    /// Those of the chains that begin with an instruction and an edge.
    by_start: HashMap<(u64, Edge), Vec<u32>>,
    /// Where they led, by a hash of start, set and values: a hash of registers and ghost state.
    stepped: HashMap<u128, u128, std::hash::BuildHasherDefault<Low64>>,
}

impl Footprints {
    /// How a chain ended that began like this one. `hash` makes one of a start, a number
    /// and the values in a set.
    pub fn find(&self, start: Start, mut hash: impl FnMut(Start, u32, &[u64]) -> u128) -> Option<u128> {
        let sets = self.by_start.get(&(start.rip, start.edge))?;
        sets.iter().find_map(|i| self.stepped.get(&hash(start, *i, &self.sets[*i as usize])).copied())
    }

    /// Keeps a chain that was stepped and read the words in `read`.
    pub fn add(&mut self, start: Start, read: &[u64], end: u128, hash: impl FnOnce(Start, u32, &[u64]) -> u128) {
        let of_start = self.by_start.entry((start.rip, start.edge)).or_default();
        let known = of_start.iter().copied().find(|i| self.sets[*i as usize] == read);
        let i = known.unwrap_or_else(|| {
            let shared = self.sets.iter().position(|set| set == read).map(|i| i as u32);
            let i = shared.unwrap_or(self.sets.len() as u32);
            if shared.is_none() {
                self.sets.push(read.to_vec());
            }
            of_start.push(i);
            i
        });
        self.stepped.insert(hash(start, i, read), end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash of the words of `memory` that are in the set.
    fn of(memory: &[u64]) -> impl Fn(Start, u32, &[u64]) -> u128 {
        move |start, number, read| {
            let seen = (0..memory.len()).filter(|i| has(read, *i)).fold(0, |h, i| h * 31 + u128::from(memory[i]));
            start.hash << 64 | u128::from(number) << 32 | seen
        }
    }

    #[test]
    fn a_chain_is_like_another_where_registers_and_the_words_it_reads_are_the_same() {
        let mut chains = Footprints::default();
        let start = Start { rip: 0x1000, edge: Edge::NMI, hash: 7 };
        let mut read = vec![0; 1];
        assert!(insert(&mut read, 1) && !insert(&mut read, 1));
        chains.add(start, &read, 99, of(&[1, 2, 3]));
        assert_eq!(chains.find(start, of(&[8, 2, 9])), Some(99), "it reads no other word");
        assert_eq!(chains.find(start, of(&[1, 5, 3])), None);
        assert_eq!(chains.find(Start { hash: 8, ..start }, of(&[1, 2, 3])), None);
        assert_eq!(chains.find(Start { edge: Edge::Step, ..start }, of(&[1, 2, 3])), None);
        // Another that begins there reads more.
        insert(&mut read, 2);
        chains.add(start, &read, 55, of(&[1, 5, 3]));
        assert_eq!(chains.find(start, of(&[0, 5, 3])), Some(55));
        assert_eq!(chains.find(start, of(&[0, 5, 4])), None);
    }
}
