//! The NMI body: when it may run, and what it is shown.

use guest::abi::{Frame, Regs};

use super::golden::Trap;
use super::verdict::Invariant;
use super::watch::Oracle;
use crate::machine::Machine;

impl Oracle {
    /// A body announces itself with the registers it was given.
    pub fn body_begins(&mut self, machine: &Machine) {
        let nested = self.ghost.bodies > 0;
        let answered = self.ghost.body_begins();
        let at = machine.state().regs.rdi;
        if nested {
            return self.breaks(Invariant::I5, |_| "a body begins while another is active".to_owned());
        }
        if !answered {
            self.breaks(Invariant::I4, |_| "a body runs though every delivery has had its body".to_owned());
        }
        let Some(outer) = self.ghost.outer else {
            return self.breaks(Invariant::I4, |_| "a body runs with no NMI live".to_owned());
        };
        let Some(view) = regs_at(machine, at) else {
            return self.breaks(Invariant::I14, |_| format!("the body's registers at {at:#x} are not mapped"));
        };
        // An NMI that is taken for a first one while the last one's exit is still to be
        // done may be shown what it interrupted itself, which is no lie.
        let own = self.ghost.frames.nested() == Some(&view.frame);
        if let Some((name, was, shown)) = outer.difference_in_view(&view).filter(|_| !own) {
            self.breaks(Invariant::I14, |r| {
                let show = |v: u64| if name == "RIP" { r.names().show(v) } else { format!("{v:#x}") };
                format!("the body is shown {name} {}; the interrupted context has {}", show(shown), show(was))
            });
        }
        let (cr3, before) = (machine.state().sregs.cr3, outer.cr3());
        if outer.cpl() == 0 && cr3 != before {
            self.breaks(Invariant::I11, |_| {
                format!("the body runs on CR3 {cr3:#x}; the interrupted kernel's is {before:#x}")
            });
        }
        let base = machine.state().sregs.gs.base;
        if base != self.rules.gs_base() {
            self.breaks(Invariant::I10, |r| {
                format!("the body runs on GS base {base:#x}; the kernel's is {:#x}", r.gs_base())
            });
        }
    }

    /// The active body took a #DB or a #GP: it must be the next that the scenario says.
    pub(super) fn body_trapped(&mut self, trap: Trap) {
        let declared = &self.rules.scenario.traps;
        if declared.is_empty() {
            return;
        }
        let expected = declared.get(usize::from(self.ghost.body_traps));
        let expected = expected.map(|&(vector, rip)| Trap { vector, rip });
        self.ghost.body_traps = self.ghost.body_traps.saturating_add(1);
        if expected != Some(trap) {
            self.breaks(Invariant::I16, |r| {
                let expected = expected.map_or("none".to_owned(), |t| t.show(r));
                format!("the body took {}; the scenario says {expected} there", trap.show(r))
            });
        }
    }

    /// A body ends.
    pub fn body_ends(&mut self) {
        let (took, declared) = (usize::from(self.ghost.body_traps), self.rules.scenario.traps.len());
        self.ghost.body_traps = 0;
        if declared > 0 && took != declared && self.ghost.bodies > 0 {
            self.breaks(Invariant::I16, |_| format!("the body took {took} traps; the scenario says {declared}"));
        }
        match self.ghost.bodies.checked_sub(1) {
            Some(n) => self.ghost.bodies = n,
            None => self.breaks(Invariant::I5, |_| "a body ends that has not begun".to_owned()),
        }
    }
}

/// The five words at `addr`. A selector is 16 bits wide; what else a frame keeps in its
/// slot (Xen's event mask, FRED's event) is not part of the context.
pub(super) fn frame_at(machine: &Machine, addr: u64) -> Option<Frame> {
    let [rip, cs, rflags, rsp, ss] = machine.memory().words(machine.state().sregs.cr3, addr)?;
    Some(Frame { rip, cs: cs & 0xffff, rflags, rsp, ss: ss & 0xffff })
}

fn regs_at(machine: &Machine, addr: u64) -> Option<Regs> {
    let words = machine.memory().words::<21>(machine.state().sregs.cr3, addr)?;
    let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, error, rip, cs, rflags, rsp, ss] =
        words;
    let frame = Frame { rip, cs: cs & 0xffff, rflags, rsp, ss: ss & 0xffff };
    Some(Regs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, error, frame })
}
