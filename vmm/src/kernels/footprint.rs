//! What NMIs may write: the words that the kernel as it came up changes when it handles
//! them, and the stacks that it handles them on.

use std::collections::HashSet;

use super::pc::{Change, Error, Pc};

const PAGE: u64 = 4096;
/// No stack of an exception is longer: 4 KiB, or 8 with KASAN.
const LONGEST_STACK: u64 = 8 * PAGE;

/// Memory that a case may leave changed.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// Guest-physical addresses of words outside stacks.
    words: HashSet<u64>,
    /// Guest-physical addresses of pages of stacks, on which nothing of the interrupted
    /// context lies.
    stacks: HashSet<u64>,
    /// Guest-physical address of the interrupted stack's last word: from there to its page's end
    /// nothing may change.
    live: Option<u64>,
}

impl Footprint {
    /// One that holds the stack which the CPU switches to for an NMI. `rsp` is the stack pointer of
    /// what is interrupted, where it points at a stack.
    pub fn new(pc: &Pc, rsp: Option<u64>) -> Result<Self, Error> {
        let mut out = Self { live: rsp.and_then(|rsp| pc.physical(rsp)), ..Self::default() };
        if let Some(top) = pc.interrupt_stack(2)? {
            let mut at = top - 8;
            // It ends at a guard page.
            while top - at <= LONGEST_STACK
                && let Some(page) = pc.physical(at)
            {
                out.stacks.insert(page & !(PAGE - 1));
                at -= PAGE;
            }
        }
        Ok(out)
    }

    /// Adds the page of a stack pointer's last word.
    pub fn add_stack(&mut self, pc: &Pc, rsp: u64) {
        let pages = [rsp.wrapping_sub(8), rsp].map(|at| pc.physical(at).map(|p| p & !(PAGE - 1)));
        self.stacks.extend(pages.into_iter().flatten());
    }

    /// Adds words that were changed without a defect.
    pub fn add(&mut self, changes: &[Change]) {
        self.words
            .extend(changes.iter().map(|change| change.at).filter(|at| !self.stacks.contains(&(*at & !(PAGE - 1)))));
    }

    /// Whether an address is on a stack that NMIs are handled on, and not in use by what they
    /// interrupt.
    fn is_free_stack(&self, at: u64) -> bool {
        let page = at & !(PAGE - 1);
        let in_use = self.live.is_some_and(|live| live & !(PAGE - 1) == page && at >= live & !7);
        self.stacks.contains(&page) && !in_use
    }

    /// Whether a change there is one that handling an NMI makes.
    pub fn allows(&self, at: u64) -> bool {
        self.words.contains(&at) || self.is_free_stack(at)
    }

    /// The words outside stacks, by name.
    pub fn names(&self, pc: &Pc) -> Vec<String> {
        let mut all: Vec<u64> = self.words.iter().copied().collect();
        all.sort_unstable();
        all.into_iter().map(|at| name(pc, at)).collect()
    }
}

/// What lies at a guest-physical address: a name of the kernel's image, else the number.
pub fn name(pc: &Pc, at: u64) -> String {
    let shown = pc.symbols.show_physical(at);
    match shown.starts_with("0x") {
        true => format!("physical {at:#x}"),
        false => shown,
    }
}
