//! `quiet`: the body does nothing, so that no fault's iret unmasks NMIs early.

use super::{Scenario, work};

lab_note!("scenario quiet arg=SCENARIO_QUIET summary=\"the NMI body does nothing\"");

scenario!(SCENARIO_QUIET = Scenario { body, work: work::run, ..Scenario::PLAIN });

extern "sysv64" fn body() {}
