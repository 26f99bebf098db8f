//! Why a run of the machine ended.

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Execution stands at a stop.
    At(u64),
    /// The user program wrote its checksum.
    Heartbeat(u32),
    /// The user program stands in mid-checksum.
    Mark,
    /// The same, on a stack segment of the LDT.
    LdtMark,
    /// The CPU executed HLT with interrupts on; RIP is behind it.
    Idle,
    /// The console reports an oops, or anything at all in a case: the line.
    Oops(String),
    /// Triple fault.
    Shutdown,
    /// The kernel asked for a reset.
    Reset,
    /// It wrote this to the exit port, which ends a virtual machine.
    Exited(u32),
    /// HLT with interrupts off: nothing but an NMI could wake the CPU.
    Dead,
    /// The CPU time was used up.
    Budget,
    /// It cannot go on.
    Failed(String),
}
