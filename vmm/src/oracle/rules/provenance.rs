//! Provenance (I8): every frame that a return consumes was delivered, or is declared. An NMI
//! is left by a return, and by nothing else.

use guest::abi::Frame;

use crate::kvm::VcpuState;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// At a boundary: the interrupted context goes on, and no return has ended the NMI. A
    /// `ret` or a `jmp` took it back, as a switch to another task does. Where the NMI's code has
    /// taken a fault that was not returned from, it is that fault's handler that stands here,
    /// on a stack of its own that the interrupted one was on, too.
    pub(in crate::oracle) fn check_left_by_return(&mut self, state: &VcpuState) {
        let Some(outer) = &self.ghost.outer else { return };
        let here = (state.regs.rip, state.regs.rsp, state.sregs.cs.selector & 3);
        if self.ghost.frames.innermost_is_an_nmis() && here == (outer.rip(), outer.rsp(), outer.cpl().into()) {
            self.breaks(Invariant::Provenance, |r| {
                format!("execution is back at {} without a return from the NMI", r.names().show(here.0))
            });
        }
    }

    /// The return at `from` consumed `words` at `addr`.
    ///
    /// The frames of faults that the interrupted code took before the NMI are not followed by
    /// every gear; I7 holds the memory they lie in.
    pub(in crate::oracle) fn check_provenance(&mut self, addr: u64, words: &Frame, from: u64) {
        let live = self.ghost.outer.is_some() || self.ghost.in_external();
        let repeat = self.rules.scheme.repeat.contains(&words.rip);
        let rules = &self.rules;
        let known = self.ghost.frames.consume(addr, words, |was| rules.may_resume(was, words.rip));
        if !known && repeat {
            self.ghost.frames.rewritten(addr, words);
        }
        if !known && live && !repeat {
            self.breaks(Invariant::Provenance, |r| {
                let (at, to) = (r.names().show(from), r.names().show(words.rip));
                // A place in the handler's own code is where a scheme repeats, if anything.
                let own = words.cs & 3 == 0
                    && r.guest.image.is_code(words.rip)
                    && !r.interruptible(words.rip)
                    && r.scheme.entry != Some(words.rip);
                let hint = match r.guest.image.symbols.nearest_code(words.rip, &r.scheme.prefix) {
                    Some(label) if own && label.addr == words.rip => {
                        format!("; if the scheme means to go on there, its note says repeat={}", label.name)
                    }
                    _ => String::new(),
                };
                format!(
                    "{at} consumed a frame at {addr:#x} that nobody delivered or declared (to {to}, RSP {:#x}){hint}",
                    words.rsp
                )
            });
        }
    }
}
