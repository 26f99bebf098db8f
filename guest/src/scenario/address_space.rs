//! `address-space`: NMIs around fork, vmalloc and the switches between two roots, both
//! of which lack what the body touches. The same as in `vmalloc-fault` and little
//! else, so that three NMIs at every boundary can be afforded.

use super::{Scenario, vmalloc_fault};
use crate::mm::layout::{SLOT, VMALLOC};
use crate::mm::{process, vmalloc};

lab_note!(
    "scenario address-space arg=SCENARIO_ADDRESS_SPACE "
    "summary=\"fork, vmalloc and CR3 switches; the NMI body touches what the root lacks\""
);

scenario!(SCENARIO_ADDRESS_SPACE = Scenario { body: vmalloc_fault::body, work, ..Scenario::PLAIN });

extern "sysv64" fn work() -> u64 {
    let child = process::fork();
    // Before the area exists no body can have brought its entry.
    let next = VMALLOC + SLOT;
    assert!(process::lacks(process::FIRST, next) && process::lacks(child, next), "a root has the area already");
    let area = vmalloc::allocate(vmalloc::frame());
    process::switch(child);
    // SAFETY: the area just mapped; the child's own page fault brings it.
    unsafe { area.write_volatile(child as u64) };
    process::switch(process::FIRST);
    process::switch(child);
    // SAFETY: as above.
    let sum = unsafe { area.read_volatile() };
    process::switch(process::FIRST);
    sum
}
