//! The state of the PV side: the mask and its latch, and what the guest has registered.

use guest::abi::FredConfig;

use crate::kvm::VcpuState;

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
    /// In user mode without FRED: what to come back to.
    pub kernel: Option<KernelSide>,
}

/// A kernel that waits while its user code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelSide {
    /// CR3.
    pub root: u64,
    /// Selector of its code segment.
    pub cs: u16,
    /// Selector of its stack segment.
    pub ss: u16,
}

/// The registered handlers' addresses, 0 before registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Callbacks {
    /// `CALLBACKTYPE_event`. Kept, but never called: the lab has no event channels.
    pub event: u64,
    /// `CALLBACKTYPE_failsafe`. Kept, but never called: a bad frame is refused before
    /// anything is loaded from it, so no return fails half-way.
    pub failsafe: u64,
    /// `CALLBACKTYPE_syscall`: where a user's SYSCALL goes.
    pub syscall: u64,
    /// `CALLBACKTYPE_nmi`.
    pub nmi: u64,
    /// Which of failsafe (bit 0) and syscall (bit 1) mask events (`CALLBACKF_mask_events`).
    pub masks_events: u8,
    /// The iret hypercall unmasks only where the frame's flags say so.
    pub explicit_unmask: bool,
}

/// What a CPU with FRED keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fred {
    /// Its MSRs.
    pub config: FredConfig,
    /// The current stack level (CSL).
    pub level: u8,
}

impl Pv {
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
    pub(super) fn mask(&mut self) {
        self.old_mask = self.masked;
        self.masked = true;
    }

    /// Goes back to the mask from before the NMI (Xen: `async_exception_cleanup`).
    /// Nothing happens where none is masked.
    pub(super) fn pop_mask(&mut self) {
        self.masked = self.old_mask;
        self.old_mask = false;
    }
}
