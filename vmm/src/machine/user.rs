//! User code of a guest: stops in ring 3, and SYSCALL where the host leaves it half
//! done.

use super::lab::{Machine, UserMode};
use super::pv::selector::Segments;
use crate::cpu::rflags;

/// Bytes that a fault with an error code pushes, from a 16-byte boundary down.
const PUSHED: usize = 48;
/// SYSCALL's opcode.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// What #GP and #PF from ring 3 will overwrite.
#[derive(Default)]
pub(super) struct Entries {
    /// Where each will push: physical address and bytes.
    stacks: [Option<(usize, [u8; PUSHED])>; 2],
    cr2: u64,
}

impl Machine {
    /// The top of the stack on which the CPU enters ring 0 from ring 3 (RSP0 of the TSS,
    /// SDM vol. 3, 7.7); 0 where there is no TSS to read.
    pub fn entry_sp(&self) -> u64 {
        self.tss_word(4)
    }

    fn tss_word(&self, offset: u64) -> u64 {
        let sregs = &self.state().sregs;
        self.memory().word(sregs.cr3, sregs.tr.base.wrapping_add(offset)).unwrap_or(0)
    }

    /// The top of the stack that a fault from ring 3 is pushed to.
    fn stack_of_fault(&self, vector: u8) -> u64 {
        match self.idt.ist(vector) {
            0 => self.entry_sp(),
            n => self.tss_word(0x1c + 8 * u64::from(n)),
        }
    }

    /// Copies what a stop in ring 3, or a SYSCALL that the host leaves half done, would
    /// overwrite in the run that is to come.
    pub(super) fn entries(&self) -> Entries {
        if self.user.is_none() {
            return Entries::default();
        }
        let stacks = [13, 14].map(|vector| {
            let low = (self.stack_of_fault(vector) & !15).wrapping_sub(PUSHED as u64);
            let ram = self.memory().0;
            let at = super::paging::translate(ram, self.state().sregs.cr3, low)? as usize;
            Some((at, ram.get(at..at + PUSHED)?.try_into().ok()?))
        });
        Entries { stacks, cr2: self.state().sregs.cr2 }
    }

    fn put_back(&mut self, before: &Entries) {
        for (at, bytes) in before.stacks.iter().flatten() {
            if let Some(to) = self.vm.ram_mut().get_mut(*at..*at + PUSHED) {
                to.copy_from_slice(bytes);
            }
        }
    }

    /// The six words that a fault from ring 3 with error code `error` has pushed, where
    /// the vCPU stands at the first instruction of that fault's handler.
    fn pushed_by_user(&self, vector: u8) -> Option<[u64; 6]> {
        let (rip, rsp, cr3) = (self.rip(), self.state().regs.rsp, self.state().sregs.cr3);
        let here = self.idt.handler(vector) == Some(rip) || self.idt.stub_vector(rip) == Some(vector);
        let words = self.memory().words::<6>(cr3, rsp).filter(|_| here)?;
        (words[2] & 3 == 3).then_some(words)
    }

    /// A HLT in ring 3 is a #GP at it (SDM vol. 2, HLT). Where the vCPU stands at the #GP
    /// handler's first instruction because of a stop in ring 3, goes back to the stop:
    /// all is as if ring 0 had not been entered.
    pub(super) fn undo_user_stop(&mut self, before: &Entries) -> bool {
        if self.user.is_none() {
            return false;
        }
        let Some([0, rip, cs, flags, rsp, ss]) = self.pushed_by_user(13) else { return false };
        if !self.is_patched(rip) {
            return false;
        }
        let mut state = *self.state();
        let Ok(segments) = Segments::load(&state, &self.memory(), cs, ss) else { return false };
        segments.commit(&mut state);
        (state.regs.rip, state.regs.rsp) = (rip, rsp);
        // The fault set RF in the frame; one that was there is put back by `settle`.
        state.regs.rflags = flags & !rflags::RF;
        *self.vm.state_mut() = state;
        self.put_back(before);
        true
    }

    /// Where a free run must stop at page faults: each may be a SYSCALL in disguise.
    pub(super) fn page_fault_stop(&self) -> Option<u64> {
        self.user.filter(|_| self.quirks.half_syscall).and_then(|_| self.idt.handler(14))
    }

    /// Where the vCPU stands at the #PF handler's first instruction because of a SYSCALL
    /// that stayed in ring 3, completes it: the vCPU then stands at LSTAR.
    ///
    /// Host kvm_pvm: SYSCALL from native ring 3 loads RIP, RCX, R11 and RFLAGS, and stays
    /// at CPL 3 (symptom: a fetch from LSTAR by the user faults with error code 5, or
    /// 0x15 with EFER.NXE; probe `ring3-syscall`). Elsewhere the quirk
    /// is off: there it is a user's own jump to LSTAR.
    pub(super) fn complete_syscall(&mut self, before: &Entries) -> bool {
        let Some(UserMode { lstar }) = self.user.filter(|_| self.quirks.half_syscall) else { return false };
        let Some([error, rip, _, flags, rsp, _]) = self.pushed_by_user(14) else { return false };
        let (cr3, next) = (self.state().sregs.cr3, self.state().regs.rcx);
        let mut opcode = [0; 2];
        self.memory().read(cr3, next.wrapping_sub(2), &mut opcode);
        if error & !0x10 != 5 || rip != lstar || opcode != SYSCALL {
            return false;
        }
        let mut state = *self.state();
        // Delivery has loaded CS from the gate; SYSCALL takes SS from the next descriptor
        // (SDM vol. 2, SYSCALL: STAR[47:32] and that + 8).
        let cs = u64::from(state.sregs.cs.selector);
        let Ok(segments) = Segments::load(&state, &self.memory(), cs, cs + 8) else { return false };
        segments.commit(&mut state);
        (state.regs.rip, state.regs.rsp) = (rip, rsp);
        state.regs.rflags = flags & !rflags::RF;
        state.sregs.cr2 = before.cr2;
        *self.vm.state_mut() = state;
        self.put_back(before);
        true
    }
}
