//! The kernel's faults: #PF brings a root's missing vmalloc entry, #NP a segment that is
//! not present, #BP, #UD and #DB are what scenarios raise on purpose.
//!
//! All return by `iretq`, as every ordinary exception does: that is the iret
//! which unmasks NMIs in the middle of an NMI's body. A scheme whose faults return in
//! another way has a set of handlers of its own (`faults.s`), which it defines in its file;
//! the set of those that return by hypercall is here, since several schemes have it.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::asm::Handler;

/// A #DB that no place is known to raise is a breakpoint's.
#[unsafe(no_mangle)]
static BREAKPOINTS: AtomicBool = AtomicBool::new(false);

/// Whether breakpoints may hit, from now on.
pub fn expect_breakpoints(yes: bool) {
    BREAKPOINTS.store(yes, Relaxed);
}

/// A set of fault handlers, which differs from the others in how they return. Each stops at a
/// HLT where the fault is not one that it is for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handlers {
    /// #DB: goes on stepping, or ends it.
    pub debug: Handler,
    /// #BP: does nothing.
    pub breakpoint: Handler,
    /// #UD: skips a `ud2`.
    pub invalid_opcode: Handler,
    /// #NP: makes the segment present again, and retries.
    pub segment_not_present: Handler,
    /// #PF: brings the root a missing top-level entry, and retries.
    pub page_fault: Handler,
}

/// The handlers that `FAULTS $set, …` defines (`faults.s`).
macro_rules! handlers {
    ($set:literal) => {
        $crate::arch::fault::Handlers {
            debug: handler!(concat!($set, ".debug")),
            breakpoint: handler!(concat!($set, ".breakpoint")),
            invalid_opcode: handler!(concat!($set, ".invalid_opcode")),
            segment_not_present: handler!(concat!($set, ".segment_not_present")),
            page_fault: handler!(concat!($set, ".page_fault")),
        }
    };
}
pub(crate) use handlers;

/// Those that return by `iretq`.
pub const NATIVE: Handlers = handlers!("fault");
/// Those that return by hypercall, without its unmask flag.
pub const PV: Handlers = handlers!("pv_fault");
/// Of #GP: makes a return that the hypervisor refused again; returns as [`PV`].
pub const PV_REFUSED: Handler = handler!("pv_fault.general_protection");

entry_asm! {r"
# RETURN_HYPERCALL: the same contract, by HYPERVISOR_iret with flags = 0: the NMI
# mask stays as it is. Below the frame it builds the other four words of
# iret_context (rax, r11, rcx, flags from RSP up).
.macro RETURN_HYPERCALL name
    pushq $0
    pushq %rcx
    pushq %r11
    pushq %rax
\name\()_iret:
    jmp HYPERVISOR_iret
.endm

# Where the handlers of faults with an error code give up: RSP and all registers but RFLAGS
# are as at delivery.
    .globl fault.unhandled_general_protection
fault.unhandled_general_protection:
    hlt
    .globl fault.unhandled_segment_not_present
fault.unhandled_segment_not_present:
    hlt
    .globl fault.unhandled_page_fault
fault.unhandled_page_fault:
    hlt

    FAULTS fault, RETURN_IRETQ
    FAULTS pv_fault, RETURN_HYPERCALL
    REFUSED pv_fault, RETURN_HYPERCALL
"}
