//! Functions of the kernel at whose first instruction the VMM looks in: those that are
//! skipped, and those that the assists watch.

use std::ops::Range;

/// Where they are, as far as a kernel has them.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Hooks {
    /// The handler of page faults.
    pub page_fault: Option<u64>,
    /// The handler of general protection faults.
    pub general_protection: Option<u64>,
    /// Where SYSCALL goes.
    pub syscall: Option<u64>,
    /// `notify_die`, which asks debuggers about a breakpoint.
    pub notifier: Option<u64>,
    /// The complaint about an NMI without a source, which says nothing about the entry code
    /// and takes thousands of instructions.
    pub complaint: Option<Skip>,
    /// Where the kernel goes when it gives up.
    pub panics: Vec<u64>,
    /// Whether they come into force only once the kernel has set IA32_LSTAR: until then it may move
    /// its code, and the stops with it.
    pub late: bool,
    /// Whether stops may lie in code of CPL 3 ([`super::user_stop`]).
    pub user_stops: bool,
}

/// A function that returns at once when it is called.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Skip {
    /// Its first instruction.
    pub function: u64,
    /// The code from where it is skipped; from everywhere where that is empty.
    pub callers: Vec<Range<u64>>,
}
