//! Why the machine came to rest.

use super::pv::Outcome;

/// Why the machine came to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It stands at a boundary: RIP is the instruction that comes next.
    Boundary,
    /// A hypercall was made; RIP is behind it. Argument registers are as the guest
    /// left them.
    Hypercall(u8),
    /// An NMI was lost: the guest has no handler for it. Nothing else happened.
    Lost,
    /// A PV hypercall was carried out.
    Pv(Outcome),
    /// An exception whose vector leads to a HLT stub.
    Undeclared(u8),
    /// A HLT that the guest itself holds; RIP is at it.
    Halt,
    /// Triple fault.
    Shutdown,
    /// The watchdog interrupted a run that did not end.
    Interrupted,
    /// KVM gave up, or the guest used what the lab does not have.
    Failed(String),
}
