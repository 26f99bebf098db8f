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

use guest::abi::{self, Frame};

use super::memory::GuestMemoryMut;
use crate::cpu::rflags;
use crate::kvm::VcpuState;

mod callback;
mod deliver;
pub mod fred;
mod iret;
pub(in crate::machine) mod selector;

pub use callback::Callbacks;
pub use deliver::Delivery;
pub use fred::Fred;

/// What the VMM keeps for a PV guest. Part of the machine's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pv {
    /// What the guest has registered.
    pub callbacks: Callbacks,
    /// FRED is on: its configuration and stack level.
    pub fred: Option<Fred>,
    /// NMIs are masked.
    pub masked: bool,
    /// What the mask was before the NMI that set it (Xen: `old_mask`): what a return
    /// that unmasks goes back to.
    pub old_mask: bool,
    /// An NMI is latched (`v->nmi_pending`): test-and-set, so that many are one.
    pub pending: bool,
    /// An NMI was lost for want of a callback; registering one asserts it again.
    pub unserved: bool,
    /// The kernel's stack for what interrupts user mode (`__HYPERVISOR_stack_switch`).
    pub kernel_sp: u64,
    /// Root of the page table for user mode, 0 for none (MMUEXT_NEW_USER_BASEPTR).
    pub user_root: u64,
    /// The GS base of the half that does not run: the user's while the kernel does.
    pub other_gs: u64,
    /// IA32_STAR, as it was when FRED was switched on: the selectors of both rings.
    pub star: u64,
    /// In user mode without FRED: the kernel's root, code and stack selector, to come back to.
    pub kernel: Option<(u64, u16, u16)>,
}

/// What a hypercall did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned to its caller; RAX holds the result.
    Returned,
    /// A context was resumed, by `HYPERVISOR_iret` or ERETS.
    Resumed {
        /// Its five words, CS and SS as bare selectors.
        frame: Frame,
        /// Where they stood.
        context_at: u64,
        /// The instruction that made the call.
        from: u64,
        /// The call unmasked NMIs.
        unmasked: bool,
    },
    /// It raised a fault at the call; registers, mask and memory are unchanged.
    Refused(Refusal),
    /// The domain is killed.
    Crashed(String),
}

/// A fault that a return raises instead of returning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The fault's vector.
    pub vector: u8,
    /// Its error code, 0 where it has none.
    pub error: u16,
    /// Why.
    pub why: &'static str,
}

impl Refusal {
    /// #GP(0).
    pub fn protection(why: &'static str) -> Self {
        Self { vector: 13, error: 0, why }
    }
}

/// `-EPERM`.
const EPERM: u64 = (-1i64) as u64;
/// `-ENOSYS`, as hypercalls return it.
const ENOSYS: u64 = (-38i64) as u64;
/// `-EINVAL`.
const EINVAL: u64 = (-22i64) as u64;
/// `-EFAULT`.
const EFAULT: u64 = (-14i64) as u64;

/// RFLAGS that a guest may choose: not IOPL, NT and VM, nor the reserved ones.
const CHOSEN: u64 = 0x0025_0fd5;

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

    /// Whether the guest's user half runs, and its SYSCALLs are not the CPU's.
    pub fn in_user_mode(&self, state: &VcpuState) -> bool {
        self.kernel.is_some() || self.fred.is_some() && state.sregs.cs.selector & 3 == 3
    }

    /// Whether there can be a user half.
    pub fn has_user_mode(&self) -> bool {
        self.user_root != 0 || self.fred.is_some()
    }

    /// An NMI arrives: `test_and_set(nmi_pending)`.
    pub fn raise(&mut self) {
        self.pending = true;
    }

    /// Whether NMIs have somewhere to go.
    pub fn can_deliver(&self) -> bool {
        self.fred.is_some() || self.callbacks.nmi != 0
    }

    /// Where the five words lie in what a delivery pushes, from the new RSP.
    pub fn frame_offset(&self) -> u64 {
        if self.fred.is_some() { 8 } else { 16 }
    }

    /// How many bytes a delivery pushes.
    pub fn frame_bytes(&self) -> u64 {
        if self.fred.is_some() { 64 } else { 56 }
    }

    /// Masks NMIs, for a delivery.
    fn mask(&mut self) {
        self.old_mask = self.masked;
        self.masked = true;
    }

    /// Goes back to the mask from before the NMI (Xen: `async_exception_cleanup`).
    /// Nothing happens where none is masked.
    fn pop_mask(&mut self) {
        self.masked = self.old_mask;
        self.old_mask = false;
    }
}

/// RFLAGS as a return loads them from a frame.
fn flags_of(saved: u64) -> u64 {
    saved & CHOSEN | rflags::FIXED
}

/// Whether bits 63..47 are all equal (48-bit virtual addresses).
pub fn is_canonical(addr: u64) -> bool {
    let top = addr as i64 >> 47;
    top == 0 || top == -1
}
