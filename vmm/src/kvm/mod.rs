//! The only room that knows KVM, and the only one that holds `unsafe`.
//!
//! [`Vm`] is one virtual machine with one vCPU and flat RAM. Registers go in and
//! out through KVM's sync-regs area, so that a run is one `KVM_RUN` and nothing
//! else on the vCPU's descriptor.

mod caps;
mod components;
mod convert;
mod debug;
mod deep;
mod error;
mod exit;
mod fpu;
mod gs;
mod guard;
mod host;
mod lazy;
mod quirks;
mod ram;
mod sigsys;
mod smm;
mod smram;
mod state;
mod vm;
mod watchdog;
mod xen;

pub use caps::Caps;
pub use debug::Debug;
pub use deep::{DeepState, DeepValues};
pub use error::Error;
pub use exit::Exit;
pub use guard::WriteLog;
pub use host::Host;
pub use quirks::{Quirks, TrapFlag};
pub use sigsys::report_refused_calls;
pub use state::VcpuState;
pub use vm::Vm;
pub use watchdog::interrupt_after;
pub use xen::{XEN_CALL_BYTES, XEN_STUB_BYTES};
