//! Handler view (I14): the body is shown the context that the outermost NMI interrupted.

use guest::abi::{Frame, Regs};

use crate::cpu::Difference;
use crate::machine::Machine;
use crate::oracle::{Context, Invariant, Oracle};

impl Oracle {
    /// A body begins, in an NMI that interrupted `outer`: it is shown the registers at `at`.
    pub(in crate::oracle) fn check_view(&mut self, machine: &Machine, outer: &Context, at: u64) {
        let Some(view) = regs_at(machine, at) else {
            return self.breaks(Invariant::View, |_| format!("the body's registers at {at:#x} are not mapped"));
        };
        // An NMI that is taken for a first one while the last one's exit is still to be
        // done may be shown what it interrupted itself, which is no lie.
        let own = self.ghost.frames.nested() == Some(&view.frame);
        if let Some(Difference { register, was, is }) = outer.difference_in_view(&view).filter(|_| !own) {
            self.breaks(Invariant::View, |r| {
                let show = |v: u64| if register == "RIP" { r.names().show(v) } else { format!("{v:#x}") };
                format!("the body is shown {register} {}; the interrupted context has {}", show(is), show(was))
            });
        }
    }
}

fn regs_at(machine: &Machine, addr: u64) -> Option<Regs> {
    let words = machine.memory().words::<21>(machine.state().sregs.cr3, addr)?;
    let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, error, rip, cs, rflags, rsp, ss] =
        words;
    let frame = Frame { rip, cs: cs & 0xffff, rflags, rsp, ss: ss & 0xffff };
    Some(Regs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, error, frame })
}
