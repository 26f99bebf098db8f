//! The only room that knows KVM, and the only one that holds `unsafe`.
//!
//! [`Vm`] is one virtual machine with one vCPU and flat RAM. Registers go in and
//! out through KVM's sync-regs area, so that a run is one `KVM_RUN` and nothing
//! else on the vCPU's descriptor.

mod caps;
mod debug;
mod error;
mod exit;
mod gs;
mod host;
mod pc;
mod quirks;
mod ram;
mod vm;
mod watchdog;
mod xen;

pub use caps::Caps;
pub use debug::Debug;
pub use error::Error;
pub use exit::Exit;
pub use host::Host;
pub use pc::{DeepState, MSR_LSTAR, MSR_MISC_ENABLE, MSR_MTRR_DEF_TYPE, MSR_STAR};
pub use quirks::{Quirks, TrapFlag};
pub use vm::{Segment, VcpuState, Vm};
pub use watchdog::interrupt_after;
pub use xen::{XEN_CALL_BYTES, XEN_STUB_BYTES};

/// `KVM_X86_SHADOW_INT_MOV_SS` (linux/arch/x86/include/uapi/asm/kvm.h): the vCPU
/// stands in the one-instruction shadow of a load of SS.
pub const SHADOW_MOV_SS: u8 = 1;
/// `KVM_X86_SHADOW_INT_STI`: the vCPU stands in the shadow of an STI.
pub const SHADOW_STI: u8 = 2;

/// RFLAGS bits that the lab looks at (SDM vol. 1, 3.4.3).
pub mod rflags {
    /// Bit 1 always reads as one.
    pub const FIXED: u64 = 1 << 1;
    /// Trap flag.
    pub const TF: u64 = 1 << 8;
    /// Interrupt flag.
    pub const IF: u64 = 1 << 9;
    /// Direction flag.
    pub const DF: u64 = 1 << 10;
    /// I/O privilege level.
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume flag.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
}
