//! `user-segment`: user code runs in a code segment that the NMI's body takes away, as
//! another CPU's modify_ldt would. The return to it then raises #NP at its own
//! iretq, with everything of the user's loaded but RIP; the handler brings the segment
//! back and retries. (CVE-2015-5157 was about such a return.) In mode pv the hypervisor
//! refuses that return: #GP at the call, with everything and the NMI mask as they were.

use super::{Scenario, user};
use crate::arch::{gdt, user as mode};
use crate::mm::layout;

lab_note!(
    "scenario user-segment ring3 faults=np arg=SCENARIO_USER_SEGMENT "
    "summary=\"the NMI body takes away the code segment that user code runs in: the return to it faults\""
);

scenario!(SCENARIO_USER_SEGMENT = Scenario { body, work, ..Scenario::PLAIN });

extern "sysv64" fn body() {
    gdt::remove_segment();
}

extern "sysv64" fn work() -> u64 {
    // Once without any NMI: the way in faults, and its handler helps.
    gdt::remove_segment();
    let sum = user::run(layout::USER_SP, mode::USER_RFLAGS, gdt::GOING_CS);
    assert!(gdt::was_brought_back(), "nobody missed the segment");
    sum
}
