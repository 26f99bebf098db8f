//! `xen-bit31`: XenLinux's return. Ordinary returns to the kernel are a direct
//! `iretq`, of which the hypervisor hears nothing; bit 31 of the saved EFLAGS marks
//! the one return that must go by the hypercall, since it ends an NMI.
//!
//! **Layout.** As in `xen-flag`: the hypervisor delivers on the interrupted stack
//! itself, aligned to 16 (A): RCX A-56, R11 A-48, frame A-40, `abi::Regs` at A-168,
//! CR2 at A-176.
//!
//! **Idea.** In mode pv the CPU's own NMI block means nothing: an `iretq` leaves the
//! hypervisor's mask alone. So every return may be direct but the one that must
//! unmask. RFLAGS has no bit 31, so a saved EFLAGS word has room for the guest's own
//! note (XenLinux: NMI_MASK, later XEN_EFLAGS_NMI). The hypercall is Xen's own: it
//! always unmasks.
//!
//! **Invariant.** NMIs are masked from delivery to `exit_hypercall`; a frame has bit
//! 31 set only between `mark` and there.
//!
//! **Cost.** 53 instructions besides the body, one hypercall an NMI, and none for any
//! other return: two instructions more for each of those.
//!
//! **Known weaknesses.** A frame whose mark is lost leaves NMIs masked for good. Every
//! return path must know the mark, and clear it before RFLAGS are loaded. The
//! interrupted stack must be a good one at all times. Returns to user mode need the
//! hypercall anyway.
//!
//! Source: XenLinux's and Linux's arch/x86/kernel/entry_64-xen.S (HYPERVISOR_IRET,
//! NMI_MASK), as Xen's 2.6.18 and SUSE's kernels had it; Xen's public headers for the
//! frame and the call.

use super::Scheme;
use crate::arch::fault::handlers;
use crate::asm::Handler;
use crate::hyper;

/// The guest's own mark in a saved EFLAGS word: this return ends an NMI.
const XEN_EFLAGS_NMI: u32 = 1 << 31;

lab_note!(
    "scheme xen-bit31 ring3 mode=pv arg=SCHEME_XEN_BIT31 entry=xen_bit31.entry prefix=xen_bit31. faults=gp@HYPERVISOR_iret+0x5 "
    "summary=\"the hypervisor masks; direct iret but for the NMI's own return\""
);

scheme!(
    SCHEME_XEN_BIT31 = Scheme::paravirtual(entry, register, handlers!("bit31_fault"))
        .refused_by(handler!("bit31_fault.general_protection"))
);

fn register(entry: Handler) -> i64 {
    hyper::register_nmi_callback(entry as *const () as u64, 0)
}

unsafe extern "C" {
    #[link_name = "xen_bit31.entry"]
    fn entry();
}

entry_asm! {r"
# RSP → RCX, R11, frame. NMIs are masked by the hypervisor; rcx and r11 hold
# nothing, the other registers are the interrupted context's. GS is the kernel's.
    .globl xen_bit31.entry
xen_bit31.entry:
    popq %rcx
    popq %r11
    # The upper half of the CS word is the event mask, not part of the selector.
    movl $0, 12(%rsp)
    pushq $-1
xen_bit31.save:
    PUSH_REGS
    SAVE_CR2
    cld

# RSP → CR2, abi::Regs. The body may fault; the faults' handlers return directly.
xen_bit31.body:
    leaq 8(%rsp), %rdi
    call nmi_body

# 152(%rsp): the saved EFLAGS (CR2, fifteen registers, error word, RIP, CS).
xen_bit31.mark:
    orl ${bit31}, 152(%rsp)
xen_bit31.exit:
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp

# RSP → frame; registers as interrupted. The tail of every return.
xen_bit31.exit_choose:
    testl ${bit31}, 16(%rsp)
    jnz xen_bit31.exit_hypercall
xen_bit31.exit_iret:
    iretq

# The same, for a frame with the mark. Builds the rest of iret_context below it.
xen_bit31.exit_hypercall:
    andl ${unmarked}, 16(%rsp)
    pushq $0
    pushq %rcx
    pushq %r11
    pushq %rax

# RSP → iret_context. The hypercall page's stub; does not return.
xen_bit31.exit_call:
    jmp HYPERVISOR_iret

# RETURN_BIT31: a fault's return (faults.s). XenLinux's HYPERVISOR_IRET: direct, unless
# bit 31 of the saved EFLAGS says that the hypervisor must hear of it.
.macro RETURN_BIT31 name
    testl ${bit31}, 16(%rsp)
    jnz xen_bit31.exit_hypercall
\name\()_iret:
    iretq
.endm
    FAULTS bit31_fault, RETURN_BIT31
    REFUSED bit31_fault, RETURN_BIT31
",
    bit31 = XEN_EFLAGS_NMI,
    unmarked = !XEN_EFLAGS_NMI,
}
