//! `xen-always`: pvops on x86-64. Every exception return is the iret hypercall, and
//! that hypercall always restores the mask from before the NMI: it always unmasks.
//!
//! **Layout.** As in `xen-flag`: the hypervisor delivers on the interrupted stack
//! itself, aligned to 16 (A): RCX A-56, R11 A-48, frame A-40, `abi::Regs` at A-168,
//! CR2 at A-176.
//!
//! **Idea.** None for NMIs: `xen_iret` is what `INTERRUPT_RETURN` is patched to, and it
//! is the only way back. It is the hardware's iret over again, with the hypervisor in
//! the CPU's place.
//!
//! **Invariant.** NMIs are masked from delivery to the first return of any exception.
//!
//! **Cost.** 49 instructions besides the body, and a hypercall for every return.
//!
//! **Known weaknesses.** A fault in the body unmasks. But the next NMI is delivered
//! below the interrupted body, not at a fixed place, so no frame is overwritten: the
//! body is re-entered (I5), and the stack grows with every NMI that comes while
//! bodies fault.
//!
//! Source: Linux arch/x86/xen/xen-asm_64.S (xen_iret), Xen xen/arch/x86/pv/iret.c
//! (do_iret ends with async_exception_cleanup) and x86_64/entry.S.

use super::Scheme;
use crate::arch::fault;
use crate::asm::Handler;
use crate::hyper;

lab_note!(
    "scheme xen-always ring3 mode=pv arg=SCHEME_XEN_ALWAYS entry=xen_always.entry prefix=xen_always. faults=gp@HYPERVISOR_iret+0x5 "
    "summary=\"the hypervisor masks; every return is its iret call, which unmasks\""
);

scheme!(SCHEME_XEN_ALWAYS = Scheme::paravirtual(entry, register, fault::PV).refused_by(fault::PV_REFUSED));

// Without CALLBACKF_EXPLICIT_UNMASK the call means what it means to Xen.
fn register(entry: Handler) -> i64 {
    hyper::register_nmi_callback(entry as *const () as u64, 0)
}

unsafe extern "C" {
    #[link_name = "xen_always.entry"]
    fn entry();
}

entry_asm! {r"
# RSP → RCX, R11, frame. NMIs are masked by the hypervisor; rcx and r11 hold
# nothing, the other registers are the interrupted context's. GS is the kernel's.
    .globl xen_always.entry
xen_always.entry:
    popq %rcx
    popq %r11
    # The upper half of the CS word is the event mask, not part of the selector.
    movl $0, 12(%rsp)
    pushq $-1
xen_always.save:
    PUSH_REGS
    SAVE_CR2
    cld

# RSP → CR2, abi::Regs. A fault of the body returns by the hypercall, and from
# there to exit_iret NMIs are open: the next one is delivered below this.
xen_always.body:
    leaq 8(%rsp), %rdi
    call nmi_body
xen_always.exit:
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp

# RSP → frame; registers as interrupted. The rest of iret_context goes below.
xen_always.build_context:
    pushq $0
    pushq %rcx
    pushq %r11
    pushq %rax

# RSP → iret_context. The hypercall page's stub; does not return.
xen_always.exit_iret:
    jmp HYPERVISOR_iret
",
}
