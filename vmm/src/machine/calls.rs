//! What a PV guest asks of the hypervisor, carried out on the machine: hypercalls, and
//! its user's SYSCALLs.

use guest::abi;

use super::error::Error;
use super::lab::Machine;
use super::memory::GuestMemoryMut;
use super::pv::{Delivery, Outcome};
use super::stop::Stop;
use crate::cpu::msr;
use crate::cpu::rflags;
use crate::image::code::Flow;
use crate::image::manifest::Mode;
use crate::image::vectors::has_error_code;

impl Machine {
    /// Carries out what the vCPU has just left for, by an instruction of so many bytes.
    pub(super) fn pv_hypercall(&mut self, port: u8, bytes: u64) -> Result<Stop, Error> {
        match self.pv_outcome(port, bytes) {
            Outcome::Refused(why) if self.idt.is_empty() => {
                Ok(Stop::Pv(Outcome::Crashed(format!("a return was refused before ready: {}", why.why))))
            }
            Outcome::Refused(why) => {
                log::debug!("return refused: {why:?}");
                self.patch_handlers();
                self.resume_patched() // to the fault's handler
            }
            outcome => Ok(Stop::Pv(outcome)),
        }
    }

    pub(super) fn pv_outcome(&mut self, port: u8, bytes: u64) -> Outcome {
        if self.mode() != Mode::Pv {
            return Outcome::Crashed("a PV hypercall in mode native".into());
        }
        let mut state = *self.vm.state();
        let from = state.regs.rip.wrapping_sub(bytes);
        if port == abi::PORT_PV && state.regs.rax == abi::HYPERCALL_FRED_CONFIG {
            match self.vm.msr(msr::STAR) {
                Ok(Some(star)) => self.pv.star = star,
                _ => return Outcome::Crashed("this KVM does not say what IA32_STAR holds".into()),
            }
        }
        let mut mem = GuestMemoryMut(self.vm.ram_mut());
        let outcome = match port {
            abi::PORT_ERETS => self.pv.erets(&mut state, &mem.shared(), from),
            abi::PORT_ERETU => self.pv.eretu(&mut state, &mem.shared(), from),
            _ => self.pv.hypercall(&mut state, &mut mem, from),
        };
        if let Outcome::Refused(why) = outcome {
            // A fault at the call: RIP goes back to it, and the frame has RF set, as that of any
            // fault (SDM vol. 3, 18.3.1.1). Nothing else changes.
            state.regs.rip = from;
            state.regs.rflags |= rflags::RF;
            state.events.exception = crate::cpu::Exception {
                injected: 1,
                nr: why.vector,
                has_error_code: has_error_code(why.vector).into(),
                pending: 0,
                error_code: why.error.into(),
            };
        }
        *self.vm.state_mut() = state;
        outcome
    }

    /// Whether the next instruction is a SYSCALL of the guest's user half.
    pub(super) fn at_user_syscall(&self) -> bool {
        self.pv.in_user_mode(self.vm.state()) && self.guest.code.at(self.rip()).is_some_and(|d| d.flow == Flow::Syscall)
    }

    /// Carries out that SYSCALL, which goes to the hypervisor. The CPU never executes it,
    /// so no host's SYSCALL is relied on (on kvm_pvm it stays in ring 3).
    pub(super) fn user_syscall(&mut self, next: u64) -> Stop {
        let mut state = *self.vm.state();
        let done = self.pv.syscall(next, &mut state, &mut GuestMemoryMut(self.vm.ram_mut()));
        *self.vm.state_mut() = state;
        self.vm.state_mut().events.interrupt.shadow = 0;
        if done == Delivery::Entered {
            self.note_frame();
        }
        match done {
            Delivery::Crashed(why) => Stop::Pv(Outcome::Crashed(why)),
            Delivery::Entered | Delivery::Lost => Stop::Boundary,
        }
    }
}
