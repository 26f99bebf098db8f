//! The six words at the top of the NMI stack: the frame that the CPU writes when it delivers an
//! NMI, and the word beneath it, the first that entry code saves.
//!
//! Once the entry code has copied them, they hold what the last NMI left, until the next
//! delivery writes them again. States are not told apart by what nothing reads: from where one
//! NMI's path reads them for the last time, and after an iretq. An instruction that reads one of
//! them all the same ends the claim.

use std::collections::HashSet;

use super::counters::{Bytes, overlap};
use super::state::PAGE;
use crate::kernels::error::LabError;
use crate::kernels::path::Path;
use crate::kernels::pc::Pc;

const BYTES: u64 = 6 * 8;

/// Where the words are, and where they are dead.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    words: Option<Bytes>,
    dead_at: HashSet<u64>,
}

impl Frame {
    /// That of a kernel whose NMIs take `path`.
    pub fn of(pc: &Pc, path: &Path) -> Result<Self, LabError> {
        let top = pc.interrupt_stack(2)?;
        let first = top.and_then(|top| pc.physical(top.wrapping_sub(BYTES)));
        let words = first.filter(|at| at % PAGE as u64 + BYTES <= PAGE as u64).map(|at| (at, BYTES));
        Ok(Self { words, dead_at: path.without_frame() })
    }

    /// None: states differ by every word.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether the words may still be read when execution comes to `rip`, where they might be
    /// before.
    pub fn lives(&self, before: bool, returned: bool, rip: u64) -> bool {
        self.words.is_none() || before && !returned && !self.dead_at.contains(&rip)
    }

    /// Whether an access is to one of the words.
    pub fn has(&self, access: Bytes) -> bool {
        self.words.is_some_and(|words| overlap(words, access))
    }

    /// The bytes of a page that are theirs.
    pub fn in_page(&self, page: u64) -> Option<std::ops::Range<usize>> {
        let (at, len) = self.words.filter(|(at, _)| at & !(PAGE as u64 - 1) == page)?;
        Some((at - page) as usize..(at - page + len) as usize)
    }
}
