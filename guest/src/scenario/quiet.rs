//! `quiet`: the body does nothing, so that no fault's iret unmasks NMIs early.

use super::{Scenario, work};

lab_note!("scenario quiet arg=SCENARIO_QUIET summary=\"the NMI body does nothing\"");

#[unsafe(no_mangle)]
#[used]
#[unsafe(link_section = ".rodata.lab")]
static SCENARIO_QUIET: Scenario = Scenario { body, work: work::run };

extern "sysv64" fn body() {}
