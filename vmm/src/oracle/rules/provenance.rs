//! Provenance (I8): every frame that a return consumes was delivered, or is declared.

use guest::abi::Frame;

use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// The return at `from` consumed `words` at `addr`.
    ///
    /// The frames of faults that the interrupted code took before the NMI are not followed by
    /// every gear; I7 holds the memory they lie in.
    pub(in crate::oracle) fn check_provenance(&mut self, addr: u64, words: &Frame, from: u64) {
        let live = self.ghost.outer.is_some();
        let repeat = self.rules.scheme.repeat.contains(&words.rip);
        let known = self.ghost.frames.consume(addr, words);
        if !known && repeat {
            self.ghost.frames.rewritten(addr, words);
        }
        if !known && live && !repeat {
            self.breaks(Invariant::Provenance, |r| {
                let (at, to) = (r.names().show(from), r.names().show(words.rip));
                format!(
                    "{at} consumed a frame at {addr:#x} that nobody delivered or declared (to {to}, RSP {:#x})",
                    words.rsp
                )
            });
        }
    }
}
