//! Delivery: Xen's bounce frame, for an NMI and for a user's SYSCALL.

use super::outcome::Delivery;
use super::selector::Segments;
use super::state::{KernelSide, Pv};
use crate::cpu::rflags;
use crate::kvm::VcpuState;
use crate::machine::memory::GuestMemoryMut;

/// What a bounce frame's handler does not inherit (x86_64/entry.S, create_bounce_frame).
const CLEARED: u64 = rflags::TF | rflags::IF | rflags::RF | rflags::NT | rflags::VM | rflags::AC;

impl Pv {
    /// Delivers the latched NMI, as the guest has asked for.
    pub fn deliver(&mut self, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Delivery {
        self.pending = false; // cleared before the frame is built, as in Xen
        match self.fred {
            Some(fred) => self.deliver_fred(fred, state, mem),
            None if self.callbacks.nmi == 0 => {
                self.unserved = true;
                Delivery::Lost
            }
            None => match self.bounce(self.callbacks.nmi, "an NMI's", state, mem) {
                Ok(()) => {
                    self.mask();
                    Delivery::Entered
                }
                Err(why) => Delivery::Crashed(why),
            },
        }
    }

    /// SYSCALL in user mode, which comes to the hypervisor: it bounces it to the guest's
    /// kernel (`lstar_enter`, `switch_to_kernel`). `next` is the instruction behind it.
    pub fn syscall(&mut self, next: u64, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Delivery {
        if let Some(fred) = self.fred {
            return self.syscall_fred(fred, next, state, mem);
        }
        if self.callbacks.syscall == 0 {
            return Delivery::Crashed("a SYSCALL of user mode, and no callback is registered for it".into());
        }
        let before = *state;
        let regs = &mut state.regs;
        regs.rflags &= !rflags::RF;
        (regs.rcx, regs.r11, regs.rip) = (next, regs.rflags, next);
        match self.bounce(self.callbacks.syscall, "a SYSCALL's", state, mem) {
            Ok(()) => {
                state.regs.rflags &= !rflags::DF;
                Delivery::Entered
            }
            Err(why) => {
                *state = before;
                Delivery::Crashed(why)
            }
        }
    }

    /// Kernel and user have a GS base each, which the hypervisor exchanges with them
    /// (`toggle_guest_mode`).
    pub(super) fn swap_gs(&mut self, state: &mut VcpuState) {
        std::mem::swap(&mut state.sregs.gs.base, &mut self.other_gs);
    }

    /// `create_bounce_frame`: from kernel mode on the current stack, from user mode on
    /// the kernel's; 16-byte aligned.
    fn bounce(&mut self, to: u64, whose: &str, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Result<(), String> {
        let (cr3, top) = match self.kernel {
            Some(KernelSide { root, .. }) => (root, self.kernel_sp),
            None => (state.sregs.cr3, state.regs.rsp),
        };
        let segments = match self.kernel {
            Some(KernelSide { cs, ss, .. }) => {
                let mut in_kernel = *state;
                in_kernel.sregs.cr3 = cr3;
                let segments = Segments::load(&in_kernel, &mem.shared(), cs.into(), ss.into());
                Some(segments.map_err(|r| format!("the kernel's selectors are gone: {}", r.why))?)
            }
            None => None,
        };
        let regs = &state.regs;
        let frame = [
            regs.rcx,
            regs.r11,
            regs.rip,
            u64::from(state.sregs.cs.selector),
            regs.rflags,
            regs.rsp,
            u64::from(state.sregs.ss.selector),
        ];
        let rsp = (top & !15).wrapping_sub(frame.len() as u64 * 8);
        if !mem.write_words(cr3, rsp, &frame) {
            return Err(format!("{whose} bounce frame at {rsp:#x} cannot be written"));
        }
        if self.kernel.take().is_some() {
            state.sregs.cr3 = cr3;
            self.swap_gs(state);
        }
        if let Some(segments) = segments {
            segments.commit(state);
        }
        state.regs.rsp = rsp;
        state.regs.rip = to;
        state.regs.rflags &= !CLEARED;
        Ok(())
    }
}
