//! `watch`: a breakpoint may hit anywhere, in the work, in an NMI's handler and in that of #DB (`db@`
//! in schedules and searches). The handler's iretq unblocks NMIs.
//!
//! Which breakpoint it is has no part in it: debug registers are in no state of this kernel, since
//! every run would have to read them.

use super::{Scenario, short};

lab_note!(
    "scenario watch native breakpoints arg=SCENARIO_WATCH "
    "summary=\"a breakpoint's #DB may come anywhere; for db@ in schedules\""
);

scenario!(SCENARIO_WATCH = Scenario { body, work: short::work, breakpoints: true, ..Scenario::PLAIN });

extern "sysv64" fn body() {}
