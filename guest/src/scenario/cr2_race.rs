//! `cr2-race`: the interrupted kernel takes a page fault on one vmalloc area; the body
//! faults on another. An NMI between the fault's delivery and its handler's read of
//! CR2 must leave CR2 alone.

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::Scenario;
use crate::mm::layout::VMALLOC;
use crate::mm::{process, vmalloc};

lab_note!(
    "scenario cr2-race arg=SCENARIO_CR2_RACE "
    "summary=\"a page fault is interrupted by an NMI whose body faults on another address\""
);

scenario!(SCENARIO_CR2_RACE = Scenario { body, work, ..Scenario::PLAIN });

/// What the body touches, once it is there. Never the area that the work faults on.
static TARGET: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());

extern "sysv64" fn body() {
    let target = TARGET.load(Relaxed);
    if !target.is_null() {
        // SAFETY: the area that `work` mapped.
        unsafe { target.read_volatile() };
    }
}

extern "sysv64" fn work() -> u64 {
    TARGET.store(vmalloc::allocate(vmalloc::frame()), Relaxed);
    // The window exists where the first area comes by a fault, which no body takes.
    assert!(process::lacks(process::FIRST, VMALLOC) == vmalloc::is_lazy(), "the work takes no page fault");
    // SAFETY: the area that boot mapped.
    unsafe { (VMALLOC as *mut u64).read_volatile() }
}
