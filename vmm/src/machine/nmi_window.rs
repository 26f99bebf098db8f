//! `--hv-bug nmi-window-sets-tf`: KVM before commit f86368493ec0, on AMD without virtual
//! NMIs.
//!
//! KVM asked twice whether an NMI was pending: once to inject it, once to ask for an exit
//! where NMIs open. One that came between the two tests was not injected, and the exit was
//! asked for by setting TF in the guest's RFLAGS, at an instruction of its own. KVM
//! intercepts that #DB; but what the instruction itself saves of RFLAGS has TF.

use super::error::Error;
use super::hv_bug::HvBug;
use super::lab::Machine;
use super::needs::DB;
use super::stop::Stop;
use crate::cpu::rflags;
use crate::image::code::Decoded;
use crate::image::manifest::Mode;

impl Machine {
    /// Whether an NMI that arrives here falls between the two tests.
    pub fn races_with_nmi_window(&self) -> bool {
        let kernel = self.state().sregs.cs.selector & 3 == 0;
        self.knobs.hv_bug == Some(HvBug::NmiWindowSetsTf)
            && self.mode() == Mode::Native
            && kernel
            && !(self.pending() || self.blocked() || self.in_shadow())
            // Behind an exit KVM asks again.
            && self.next_instruction().is_none_or(|d| d.port().is_none())
    }

    /// Executes one instruction under the hypervisor's TF. Its #DB never was: the guest
    /// finds TF only in what the instruction pushed, or the frame of a fault it raised.
    pub fn step_in_nmi_window(&mut self) -> Result<Stop, Error> {
        let own = self.state().regs.rflags & rflags::TF;
        self.vm.state_mut().regs.rflags |= rflags::TF;
        // Hosts differ in where #DB comes behind those that cast a shadow.
        let casts = |d: &Decoded| d.loads_ss() || d.is_sti();
        let unseen = self.next_instruction().is_none_or(|d| casts(&d) || self.cannot_trap(&d).is_some());
        if own != 0 || unseen {
            // TF is the guest's, too; or the instruction saves no flags.
            self.vm.state_mut().regs.rflags ^= rflags::TF ^ own;
            return self.step();
        }
        let before = self.checkpoint();
        let stop = self.step()?;
        if stop == Stop::Boundary && self.idt.vector_of(self.rip()) == Some(DB) {
            self.take_back_trap(&before.pages);
        }
        Ok(stop)
    }

    /// Stands at the #DB handler's first instruction; goes back to where #DB was raised,
    /// with `pages` under its frame.
    fn take_back_trap(&mut self, pages: &[u8]) {
        let (at, cr3) = (self.state().regs.rsp, self.state().sregs.cr3);
        let Some([rip, _, flags, rsp, _]) = self.memory().words::<5>(cr3, at) else { return };
        for byte in at..at + 40 {
            let Some(paddr) = super::paging::translate(self.memory().0, cr3, byte) else { continue };
            let Some(page) = self.pages.iter().position(|p| *p == paddr & !4095) else { continue };
            self.vm.ram_mut()[paddr as usize] = pages[page * 4096 + (paddr & 4095) as usize];
        }
        let regs = &mut self.vm.state_mut().regs;
        (regs.rip, regs.rsp, regs.rflags) = (rip, rsp, flags & !(rflags::TF | rflags::RF));
    }
}
