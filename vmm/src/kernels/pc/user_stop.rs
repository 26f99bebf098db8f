//! Stops in code of CPL 3. A HLT there is a #GP at it (SDM vol. 2, HLT), so that the machine stops at
//! that fault's handler, and goes back: all is as if the kernel had not been entered.

use super::Pc;
use super::assist::user_segments;
use super::memory::KERNEL_HALF;
use crate::cpu::{rflags, vector};
use crate::machine::paging;

/// Bytes that a fault with an error code pushes.
const PUSHED: u64 = 48;

/// What a run with stops in code of CPL 3 needs.
pub(super) struct UserStops {
    /// The first instruction of the #GP handler.
    pub(super) handler: u64,
    /// Where that fault is pushed to, and what is there. Unknown where the run begins in the kernel,
    /// whose stack it then is until it leaves for CPL 3: what is there is used no more.
    stack: Option<(usize, [u8; PUSHED as usize])>,
}

impl Pc {
    /// What stops of which some are in code of CPL 3 need; `None` where none is.
    pub(super) fn user_stops<'a>(&self, stops: impl IntoIterator<Item = &'a u64>) -> Option<UserStops> {
        if !self.hooks.user_stops || !stops.into_iter().any(|stop| self.is_user_code(*stop)) {
            return None;
        }
        let low = || (self.entry_stack()? & !15).checked_sub(PUSHED);
        let at = (self.cpl() == 3).then(low).flatten().and_then(|low| self.physical(low)).map(|at| at as usize);
        let stack = at.and_then(|at| Some((at, self.ram().get(at..at + PUSHED as usize)?.try_into().ok()?)));
        Some(UserStops { handler: self.handler(vector::GP)?, stack })
    }

    /// Whether CPL 3 may execute what is at an address.
    fn is_user_code(&self, addr: u64) -> bool {
        paging::is_user(self.ram(), self.page_table(addr), addr)
    }

    /// Whether an address is one of user code that is not mapped here. Before its guest is up, a
    /// hypervisor may have something of its own there.
    pub(super) fn is_elsewhere(&self, addr: u64) -> bool {
        self.hooks.user_stops && addr & KERNEL_HALF == 0 && !self.is_user_code(addr)
    }

    /// The top of the stack on which the CPU enters the kernel from CPL 3 (SDM vol. 3, 7.7).
    pub fn entry_stack(&self) -> Option<u64> {
        self.word(self.state().sregs.tr.base + 4)
    }

    /// After a HLT of the machine's: if it was executed at CPL 3, puts the segments right.
    ///
    /// Host kvm_pvm: a HLT at CPL 3 is executed where the kernel came there by an iretq that its
    /// emulator executed, and SS has DPL 0 then (symptom: KVM_EXIT_HLT with RPL 3 in CS).
    pub(super) fn assist_user_hlt(&mut self) {
        let sregs = &mut self.vm.state_mut().sregs;
        if sregs.cs.selector & 3 == 3 {
            (sregs.cs, sregs.ss) = user_segments(sregs.cs.selector, sregs.ss.selector);
            let regs = &mut self.vm.state_mut().regs;
            regs.rflags &= u64::from(u32::MAX) & !rflags::RF;
        }
    }

    /// Where execution stands at the #GP handler because of a stop in code of CPL 3, or of a place there
    /// where the machine looks in, goes back to it.
    pub(super) fn undo_user_stop(&mut self, user: &UserStops, stops: &[u64]) -> Option<u64> {
        if self.rip() != user.handler {
            return None;
        }
        let [0, rip, cs, flags, rsp, ss] = self.words::<6>(self.state().regs.rsp)? else { return None };
        let skipped = self.hooks.complaint.as_ref().is_some_and(|skip| skip.function == rip);
        let ours = stops.contains(&rip) || self.reads_clock(rip) || self.hooks.panics.contains(&rip) || skipped;
        if cs & 3 != 3 || !ours {
            return None;
        }
        let state = self.vm.state_mut();
        (state.sregs.cs, state.sregs.ss) = user_segments(cs as u16, ss as u16);
        (state.regs.rip, state.regs.rsp) = (rip, rsp);
        state.regs.rflags = flags & u64::from(u32::MAX) & !rflags::RF;
        if let Some((at, bytes)) = user.stack {
            self.vm.ram_mut()[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        Some(rip)
    }
}
