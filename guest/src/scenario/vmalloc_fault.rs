//! `vmalloc-fault`: the body reads vmalloc memory. Under the lazy policy a root
//! lacks it until its first touch, so that touch is a real #PF with a real iretq.

use super::{Scenario, work};
use crate::mm::vmalloc;

lab_note!(
    "scenario vmalloc-fault arg=SCENARIO_VMALLOC_FAULT "
    "summary=\"the NMI body touches vmalloc memory that this root may lack\""
);

scenario!(SCENARIO_VMALLOC_FAULT = Scenario { body, work: work::run, ..Scenario::PLAIN });

/// Reads the newest area.
pub(super) extern "sysv64" fn body() {
    // SAFETY: an area that is mapped for good, in the reference at least.
    unsafe { vmalloc::newest().read_volatile() };
}
