//! What of the NMI stack is dead, and so does not tell states apart.
//!
//! The CPU writes a frame of five words at the top when it delivers an NMI, and entry code saves
//! its first word beneath. Once they are copied, they hold what the last NMI left, until the next
//! delivery writes them again: they are dead from where one NMI's path reads them for the last
//! time, and after an iretq. Where execution has left the stack by an iretq, nothing of it is
//! needed any more, but what the next NMI reads before it writes it: the words that are *live*. Those
//! are all that an NMI reads which is followed by no model, and what an episode is seen to read
//! before it writes it. As long as there are more of them than were known, the search begins anew.
//!
//! An instruction that accesses what is held for dead ends the claim.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::bytes::{Bytes, PAGE, overlap};
use crate::kernels::error::LabError;
use crate::kernels::path::Path;
use crate::kernels::pc::Pc;

/// The frame, and the first word that is saved.
const FRAME: u64 = 6 * 8;
/// Pages below the top that are taken for the stack, as far as they are mapped.
const MOST_PAGES: u64 = 4;

/// What of it is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dead {
    /// Nothing.
    #[default]
    Nothing,
    /// The six words at the top.
    Frame,
    /// Its first page, but for the live words.
    Stack,
}

/// The stack of a kernel's NMIs.
#[derive(Clone, Debug, Default)]
pub struct NmiStack {
    /// The six words at the top.
    frame: Option<Bytes>,
    /// Where they are dead.
    dead_at: HashSet<u64>,
    /// The page with the top, if what is left on it may be held for dead.
    page: Option<u64>,
    /// Virtual addresses of the stack.
    range: Range<u64>,
    /// Words of the page that an NMI reads before it writes them.
    live: BTreeSet<u64>,
}

impl NmiStack {
    /// That of a kernel whose NMIs take `path`. `live`, where it is known, are the words that an
    /// NMI reads before it writes them.
    pub fn of(pc: &Pc, path: &Path, live: Option<&BTreeSet<u64>>) -> Result<Self, LabError> {
        let Some(top) = pc.interrupt_stack(2)? else { return Ok(Self::default()) };
        let page = |n: u64| pc.physical(top.wrapping_sub(n * PAGE as u64));
        let mapped = (1..=MOST_PAGES).take_while(|n| page(*n).is_some()).last().unwrap_or(0);
        let frame = pc.physical(top.wrapping_sub(FRAME));
        let first = page(1).filter(|at| at % PAGE as u64 == 0);
        Ok(Self {
            frame: frame.filter(|at| at % PAGE as u64 + FRAME <= PAGE as u64).map(|at| (at, FRAME)),
            dead_at: path.without_frame(),
            page: live.and(first),
            range: top.wrapping_sub(mapped * PAGE as u64)..top,
            live: live.cloned().unwrap_or_default(),
        })
    }

    /// None: states differ by every word.
    pub fn none() -> Self {
        Self::default()
    }

    /// What is dead while no NMI was delivered.
    pub fn at_first(&self) -> Dead {
        if self.page.is_some() { Dead::Stack } else { Dead::Frame }
    }

    /// What is dead when execution comes to `rip`, where `before` was; `returned` by an iretq.
    pub fn after(&self, before: Dead, returned: bool, rip: u64, rsp: u64) -> Dead {
        match before {
            Dead::Stack => Dead::Stack,
            _ if returned && self.is_left(rsp) => Dead::Stack,
            Dead::Nothing if !returned && !self.dead_at.contains(&rip) => Dead::Nothing,
            _ => Dead::Frame,
        }
    }

    /// Whether execution with this stack pointer is not on the stack, whose page is known.
    pub fn is_left(&self, rsp: u64) -> bool {
        self.page.is_some() && !(self.range.start < rsp && rsp <= self.range.end)
    }

    /// Whether an access is to something dead. After an iretq away from the stack, one to a live
    /// word is none that the search expects, either.
    pub fn is_dead(&self, dead: Dead, access: Bytes) -> bool {
        let bytes = match dead {
            Dead::Nothing => None,
            Dead::Frame => self.frame,
            Dead::Stack => self.page.map(|page| (page, PAGE as u64)),
        };
        bytes.is_some_and(|bytes| overlap(bytes, access))
    }

    /// Whether a byte tells states apart, by guest-physical address.
    pub fn matters(&self, dead: Dead, paddr: u64) -> bool {
        !self.is_dead(dead, (paddr, 1)) || dead == Dead::Stack && self.live.contains(&(paddr & !7))
    }

    /// Whether a byte is on the page that can be held for dead.
    pub fn has(&self, paddr: u64) -> bool {
        self.page == Some(paddr & !(PAGE as u64 - 1))
    }

    /// The words of these accesses on that page that the delivery of an NMI does not write.
    pub fn saved(&self, accesses: impl IntoIterator<Item = Bytes>) -> impl Iterator<Item = u64> {
        let frame = self.frame.map_or(0..0, |(at, len)| at + 8..at + len);
        let words = accesses.into_iter().flat_map(|(at, len)| (at & !7..at + len).step_by(8));
        words.filter(move |word| self.has(*word) && !frame.contains(word))
    }

    /// Whether the handler of one NMI, which takes `path`, leaves the stack.
    pub fn is_left_on(&self, path: &Path) -> bool {
        path.visits.iter().any(|v| !v.user && self.is_left(v.rsp))
    }

    /// Zeroes the bytes of a page that are dead; `false` where there are none.
    pub fn blank(&self, dead: Dead, at: u64, bytes: &mut [u8; PAGE]) -> bool {
        match (dead, self.frame) {
            (Dead::Stack, _) if self.page == Some(at) => {
                let words = bytes.as_chunks_mut::<8>().0.iter_mut().zip((at..).step_by(8));
                words.filter(|(_, paddr)| !self.live.contains(paddr)).for_each(|(word, _)| *word = [0; 8]);
                true
            }
            (Dead::Frame, Some((frame, len))) if frame & !(PAGE as u64 - 1) == at => {
                bytes[(frame - at) as usize..(frame - at + len) as usize].fill(0);
                true
            }
            _ => false,
        }
    }
}
