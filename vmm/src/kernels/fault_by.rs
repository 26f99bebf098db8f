//! What a fault in a handler is.

use serde::{Deserialize, Serialize};

use super::pc::PageFault;
use crate::cpu::Regs;

/// What `fault` in a schedule makes the handler take. Each goes through the kernel's own entry code,
/// handler and iretq, which unblocks NMIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultBy {
    /// The instruction there raises a page fault that the kernel's handler finds nothing to do about.
    #[default]
    Spurious,
    /// The handler there reads user memory that is not mapped: the page fault comes to the fixup
    /// of that access.
    Fixup,
    /// A breakpoint (#BP) comes before the instruction there, and a debugger answers for it.
    Breakpoint,
    /// The handler there comes to a `WARN_ONCE` (#UD) that has warned before.
    Warn,
}

impl FaultBy {
    /// All of them.
    pub const ALL: [FaultBy; 4] = [FaultBy::Spurious, FaultBy::Fixup, FaultBy::Breakpoint, FaultBy::Warn];

    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            FaultBy::Spurious => "spurious",
            FaultBy::Fixup => "fixup",
            FaultBy::Breakpoint => "breakpoint",
            FaultBy::Warn => "warn",
        }
    }

    /// Whether it is the usual one, which need not be named.
    pub fn is_usual(&self) -> bool {
        *self == FaultBy::default()
    }
}

/// How a kernel is made to take a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A page fault of the instruction that comes next.
    Page(PageFault),
    /// A breakpoint before it, for which the kernel's notifiers are said to have answered.
    Breakpoint,
    /// A detour through code of the kernel's that faults.
    Detour(Detour),
}

/// Code of the kernel's that the handler is made to go through: registers are then what they were, as
/// if it had called a function that saves all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detour {
    /// A function with these arguments, that returns. It is the handler's own call.
    Call {
        /// Its first instruction.
        function: u64,
        /// RDI, RSI, RDX.
        arguments: [u64; 3],
    },
    /// From one instruction to another, with the same stack pointer.
    From {
        /// The first instruction.
        start: u64,
        /// Where the detour is over.
        end: u64,
    },
}

/// A detour that execution is on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Away {
    /// Where it is over, and with which stack pointer.
    pub(super) end: u64,
    pub(super) rsp: u64,
    /// The registers that are then put back.
    pub(super) regs: Regs,
}
