//! `xen-flag`: the hypervisor owns the NMI mask, and the iret hypercall carries a
//! flag that says whether to unmask.
//!
//! **Layout.** The hypervisor delivers on the interrupted stack itself, aligned to
//! 16 (A): RCX A-56, R11 A-48, frame A-40. Then error word and registers:
//! `abi::Regs` at A-168, CR2 at A-176. No IST: nothing can be overwritten.
//!
//! **Idea.** A return is a hypercall on Xen's nine-word `iret_context`. An
//! exception's return inside the body leaves the flag clear, so the mask stays; only
//! the NMI's own return sets it. Latching and masking are the hypervisor's, in one
//! step with the register load: no window remains.
//!
//! **Invariant.** NMIs are masked from delivery to `exit_iret`.
//!
//! **Cost.** 49 instructions besides the body (`naive`: 47), and a hypercall for
//! every return.
//!
//! **Known weaknesses.** It trusts every exception handler to leave the flag clear.
//! The interrupted stack must be a good one at all times.
//!
//! Source: Xen's public headers (xen-x86_64.h, callback.h) for frame and call. The
//! flag is the one that the LKML thread of July 2010 mentions; in Xen's own ABI
//! the call always unmasks, and the explicit bit is this project's extension.

use guest::abi;

use super::Scheme;
use crate::arch::fault;
use crate::asm::Handler;
use crate::hyper;

lab_note!(
    "scheme xen-flag ring3 mode=pv arg=SCHEME_XEN_FLAG entry=xen_flag.entry prefix=xen_flag. faults=gp@HYPERVISOR_iret+0x5 "
    "summary=\"the hypervisor masks; its iret call unmasks on request\""
);

scheme!(SCHEME_XEN_FLAG = Scheme::paravirtual(entry, register, fault::PV).refused_by(fault::PV_REFUSED));

/// Registers `entry`, whose iret calls say whether to unmask.
pub(super) fn register(entry: Handler) -> i64 {
    hyper::register_nmi_callback(entry as *const () as u64, abi::CALLBACKF_EXPLICIT_UNMASK)
}

unsafe extern "C" {
    #[link_name = "xen_flag.entry"]
    fn entry();
}

entry_asm! {r"
# RSP → RCX, R11, frame. NMIs are masked by the hypervisor; rcx and r11 hold
# nothing, the other registers are the interrupted context's. GS is the
# kernel's: the hypervisor sees to that.
    .globl xen_flag.entry
xen_flag.entry:
    popq %rcx
    popq %r11
    # The upper half of the CS word is the event mask, not part of the selector.
    movl $0, 12(%rsp)
    pushq $-1
xen_flag.save:
    PUSH_REGS
    SAVE_CR2
    cld

# RSP → CR2, abi::Regs. The body may fault; the faults' handlers return by the
# hypercall without the flag.
xen_flag.body:
    leaq 8(%rsp), %rdi
    call nmi_body
xen_flag.exit:
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp

# RSP → frame; registers as interrupted. The rest of iret_context goes below.
xen_flag.build_context:
    pushq ${unmask}
    pushq %rcx
    pushq %r11
    pushq %rax

# RSP → iret_context. The hypercall page's stub; does not return.
xen_flag.exit_iret:
    jmp HYPERVISOR_iret
",
    unmask = abi::IRET_UNMASK_NMI,
}
