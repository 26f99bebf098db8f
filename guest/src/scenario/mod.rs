//! Scenarios: what the guest does, and what an NMI's body does, while NMIs
//! arrive. One file each, with all that the scenario declares: its notes for the VMM, and
//! the places where it raises a fault on purpose (`MEANT_…` of `arch/faults.s`).

/// Declares the descriptor of a scenario, which the VMM finds by its name.
macro_rules! scenario {
    ($name:ident = $value:expr) => {
        #[unsafe(no_mangle)]
        #[used]
        #[unsafe(link_section = ".rodata.lab")]
        static $name: $crate::scenario::Scenario = $value;
    };
}

mod address_space;
mod armed;
mod bp_fault;
mod cr2_race;
mod db_fault;
mod flags;
mod fpu;
mod gdt_switch;
mod halt;
mod high_stack;
mod irq_body;
mod quiet;
mod shadows;
mod short;
mod short_user;
mod single_step;
mod spec_ctrl;
mod ud_fault;
mod user;
mod user_gs;
mod user_kpti;
mod user_rsp;
mod user_segment;
mod user_ss16;
mod vmalloc_fault;
mod watch;
mod work;

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::arch::fault;

/// A scenario. The VMM passes the address of one to boot.
#[repr(C)]
pub struct Scenario {
    /// What an NMI's body does between its begin and its end.
    pub body: extern "sysv64" fn(),
    /// What boot does for it, before *ready*.
    pub prepare: fn(),
    /// What NMIs interrupt; it returns a checksum that does not depend on them.
    pub work: extern "sysv64" fn() -> u64,
    /// A #DB may come anywhere, as by a breakpoint: the handlers of #DB return from one that no
    /// place is known to raise.
    pub breakpoints: bool,
    /// User code has page tables of its own (mm/split.rs).
    pub split: bool,
}

impl Scenario {
    /// What most have.
    const PLAIN: Self = {
        extern "sysv64" fn body() {}
        extern "sysv64" fn work() -> u64 {
            0
        }
        Self { body, prepare: || (), work, breakpoints: false, split: false }
    };
}

static CURRENT: AtomicPtr<Scenario> = AtomicPtr::new(core::ptr::null_mut());

/// Makes `scenario` the current one.
pub fn install(scenario: &'static Scenario) {
    CURRENT.store((&raw const *scenario).cast_mut(), Relaxed);
    fault::expect_breakpoints(scenario.breakpoints);
}

/// The scenario that boot installed.
#[inline(always)]
pub fn current() -> &'static Scenario {
    // SAFETY: `install` stored a static's address before *ready*, and NMIs come
    // after it.
    unsafe { &*CURRENT.load(Relaxed) }
}
