//! Delivery: Xen's bounce frame.

use super::Pv;
use super::selector::Segments;
use crate::kvm::{VcpuState, rflags};
use crate::machine::memory::GuestMemoryMut;

/// What became of a latched NMI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The vCPU stands at the handler's first instruction.
    Entered,
    /// No callback is registered: the NMI is lost, until one is.
    Lost,
    /// Its frame could not be written: the domain is killed.
    Crashed(String),
}

/// What a bounce frame's handler does not inherit (x86_64/entry.S, create_bounce_frame).
const CLEARED: u64 = rflags::TF | rflags::IF | rflags::RF | rflags::NT | rflags::VM | AC;
const AC: u64 = 1 << 18;

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
            None => self.bounce(state, mem),
        }
    }

    /// `create_bounce_frame`: from kernel mode on the current stack, from user mode on
    /// the kernel's; 16-byte aligned.
    fn bounce(&mut self, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Delivery {
        let (cr3, top) = match self.kernel {
            Some((root, ..)) => (root, self.kernel_sp),
            None => (state.sregs.cr3, state.regs.rsp),
        };
        let segments = match self.kernel {
            Some((_, cs, ss)) => match Segments::load(state, &mem.shared(), cs.into(), ss.into()) {
                Ok(segments) => Some(segments),
                Err(why) => return Delivery::Crashed(format!("the kernel's selectors are gone: {why}")),
            },
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
            return Delivery::Crashed(format!("an NMI's bounce frame at {rsp:#x} cannot be written"));
        }
        self.mask();
        self.kernel = None;
        state.sregs.cr3 = cr3;
        if let Some(segments) = segments {
            segments.commit(state);
        }
        state.regs.rsp = rsp;
        state.regs.rip = self.callbacks.nmi;
        state.regs.rflags &= !CLEARED;
        Delivery::Entered
    }
}
