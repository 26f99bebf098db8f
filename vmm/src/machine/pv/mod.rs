//! The paravirtual side: the VMM owns the NMI mask and its latch, delivers NMIs, and
//! carries out the hypercalls that return from them.
//!
//! Names, numbers and structures are Xen's where Xen has them
//! (xen/arch/x86/pv/iret.c, pv/callback.c, pv/traps.c, x86_64/entry.S). Ours are the
//! explicit flag ([`abi::CALLBACKF_EXPLICIT_UNMASK`], [`abi::IRET_UNMASK_NMI`]) and
//! FRED, whose delivery and return the VMM plays ([`fred`]). What the VMM does follows
//! from what the guest has registered, never from which scheme it is.
//!
//! Two things differ from Xen throughout. The guest's kernel runs at CPL0, not in ring
//! 3, so selectors are taken as they are and not raised to ring 3. And there are no
//! event channels: RFLAGS.IF is the guest's own, where Xen forces it and keeps an upcall
//! mask instead.

use guest::abi;

use super::memory::GuestMemoryMut;
use crate::kvm::VcpuState;

mod callback;
mod deliver;
pub mod fred;
mod iret;
mod outcome;
pub(in crate::machine) mod selector;
mod state;

pub use outcome::{Delivery, Outcome, Refusal};
use outcome::{ENOSYS, EPERM};
pub use state::{Callbacks, Fred, Pv};

impl Pv {
    /// Carries out the hypercall that the instruction at `from` made, behind which the
    /// vCPU stands.
    pub fn hypercall(&mut self, state: &mut VcpuState, mem: &mut GuestMemoryMut, from: u64) -> Outcome {
        let mem = mem.shared();
        let result = match state.regs.rax {
            // Xen has them from the guest's kernel only.
            _ if state.sregs.cs.selector & 3 != 0 => EPERM,
            abi::HYPERCALL_IRET => return self.iret(state, &mem, from),
            abi::HYPERCALL_CALLBACK_OP => self.callback_op(state, &mem),
            abi::HYPERCALL_NMI_OP => self.nmi_op(state, &mem),
            abi::HYPERCALL_STACK_SWITCH => self.stack_switch(state),
            abi::HYPERCALL_SET_SEGMENT_BASE => self.set_segment_base(state),
            abi::HYPERCALL_MMUEXT_OP => self.mmuext_op(state, &mem),
            abi::HYPERCALL_FRED_CONFIG => self.configure_fred(state, &mem),
            _ => ENOSYS,
        };
        state.regs.rax = result;
        Outcome::Returned
    }
}
