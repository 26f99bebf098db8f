//! `user-rsp`: the user's RSP points into the NMI stack, where a live NMI's would. From
//! user code that is told by privilege; at CPL0, before the kernel has its own stack and
//! after it has given it up, only by what a user cannot set: DF (CVE-2015-3291).

use super::{Scenario, ud_fault, user};
use crate::arch::gdt;

lab_note!(
    "scenario user-rsp ring3 arg=SCENARIO_USER_RSP "
    "summary=\"user code with RSP inside the NMI stack, also in the gaps of SYSCALL; the NMI body raises #UD\""
);

#[unsafe(no_mangle)]
#[used]
#[unsafe(link_section = ".rodata.lab")]
static SCENARIO_USER_RSP: Scenario = Scenario { body: ud_fault::body, work };

extern "sysv64" fn work() -> u64 {
    let (low, high) = gdt::nmi_stack();
    let rsp = high - NMI_DEPTH;
    assert!(low < rsp && rsp < high, "the user's RSP is not in the NMI stack");
    // The user code tells that this was its RSP: its result depends on it.
    let sum = user::run(rsp, gdt::USER_CS);
    assert!(user::seen_rsp() == rsp, "user code ran with another RSP");
    sum
}

/// Bytes below the top: among the registers of an NMI's handler.
const NMI_DEPTH: u64 = 0x100;
