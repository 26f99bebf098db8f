//! `user-rsp`: the user's RSP points into the NMI stack, where a live NMI's would, and DF is set.
//! From user code it is recognised by privilege; at CPL0, before the kernel has its own stack and
//! after it has given it up, only by what a user cannot set there: SYSCALL clears DF (CVE-2015-3291).

use super::{Scenario, ud_fault, user};
use crate::arch::{gdt, rflags, stacks, user as mode};

lab_note!(
    "scenario user-rsp ring3 arg=SCENARIO_USER_RSP "
    "summary=\"user code with DF set and RSP inside the NMI stack, also in the gaps of SYSCALL; the NMI body raises #UD\""
);

scenario!(SCENARIO_USER_RSP = Scenario { body: ud_fault::body, work, ..Scenario::PLAIN });

extern "sysv64" fn work() -> u64 {
    let rsp = in_nmi_stack();
    // What the user code returns depends on its RSP.
    let sum = user::run(rsp, mode::USER_RFLAGS | rflags::DF, gdt::USER_CS);
    assert!(user::seen_rsp() == rsp, "user code ran with another RSP");
    sum
}

/// An RSP that the user chooses: where a live NMI's would be.
pub(super) fn in_nmi_stack() -> u64 {
    let (low, high) = stacks::nmi_stack();
    let rsp = high - NMI_DEPTH;
    assert!(low < rsp && rsp < high, "the user's RSP is not in the NMI stack");
    rsp
}

/// Bytes below the top: among the registers of an NMI's handler.
const NMI_DEPTH: u64 = 0x100;
