//! The memory that an NMI must leave alone (I7).

use std::ops::Range;

use crate::machine::Machine;
use crate::machine::paging::translate;

/// Which bytes of a checkpoint's pages are held to be unchanged: all that a run may
/// write, less declared scratch.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Ranges of offsets into a checkpoint's pages, ascending.
    ranges: Vec<Range<usize>>,
    /// `(first virtual address, bytes, offset)` of the image's writable segments.
    map: Vec<(u64, u64, usize)>,
}

impl Watched {
    /// For a machine at *ready*, with `scratch` as virtual addresses.
    pub fn new(machine: &Machine, scratch: &[Range<u64>]) -> Self {
        let pages = machine.pages();
        let offset_of =
            |paddr: u64| pages.iter().position(|p| *p == paddr & !4095).map(|i| i * 4096 + (paddr & 4095) as usize);
        let mut free = vec![true; pages.len() * 4096];
        let (ram, cr3) = (machine.memory(), machine.state().sregs.cr3);
        for byte in scratch.iter().cloned().flatten() {
            if let Some(at) = translate(ram.0, cr3, byte).and_then(offset_of) {
                free[at] = false;
            }
        }
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (at, _) in free.iter().enumerate().filter(|(_, free)| **free) {
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end = at + 1,
                _ => ranges.push(at..at + 1),
            }
        }
        let segments = machine.guest().image.segments.iter().filter(|s| s.write);
        let map = segments
            .filter_map(|s| {
                let skew = s.vaddr & 4095;
                let size = (s.size + skew).next_multiple_of(4096);
                Some((s.vaddr - skew, size, offset_of(s.paddr & !4095)?))
            })
            .collect();
        Self { ranges, map }
    }

    /// The offset of a virtual address in a checkpoint's pages.
    pub fn offset(&self, vaddr: u64) -> Option<usize> {
        let (first, _, at) = self.map.iter().find(|(first, size, _)| vaddr.wrapping_sub(*first) < *size)?;
        Some(at + (vaddr - first) as usize)
    }

    /// The virtual address of an offset.
    pub fn vaddr(&self, offset: usize) -> Option<u64> {
        let (first, _, at) = self.map.iter().find(|(_, size, at)| offset.wrapping_sub(*at) < *size as usize)?;
        Some(first + (offset - at) as u64)
    }

    /// Whether any byte of `range` (virtual addresses, in one segment) is watched.
    pub fn has_any(&self, range: &Range<u64>) -> bool {
        let Some(start) = self.offset(range.start) else { return false };
        let end = start + (range.end - range.start) as usize;
        self.ranges.iter().any(|r| r.start < end && start < r.end)
    }

    /// The first watched byte that differs between two checkpoints' pages, outside
    /// `dead` (virtual addresses: the unused parts of stacks).
    pub fn difference(&self, before: &[u8], now: &[u8], dead: &[Range<u64>]) -> Option<usize> {
        let offsets = |dead: &Range<u64>| {
            let start = self.offset(dead.start)?;
            Some(start..start + (dead.end - dead.start) as usize)
        };
        for range in &self.ranges {
            if before[range.clone()] == now[range.clone()] {
                continue;
            }
            let is_dead = |at: &usize| dead.iter().filter_map(offsets).any(|range| range.contains(at));
            if let Some(at) = range.clone().find(|i| before[*i] != now[*i] && !is_dead(i)) {
                return Some(at);
            }
        }
        None
    }
}
