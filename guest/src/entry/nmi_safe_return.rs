//! `nmi-safe-return`: Mathieu Desnoyers's patch, which the LKML thread of July 2010
//! is about. The entry is `naive`'s; the faults return to an NMI without iret.
//!
//! **Layout.** As `naive`: `abi::Regs` at T-168, CR2 at T-176. A fault in the body
//! that returns overwrites the 16 bytes below the RSP that it interrupted.
//!
//! **Idea.** Only iret unblocks NMIs. So an exception that interrupted an NMI puts
//! RIP and RFLAGS on the interrupted stack and returns by `popfq; ret`: the CPU
//! itself goes on holding the next NMI back. The handlers know by the interrupted RSP
//! that an NMI is live: it lies in the NMI stack from the NMI's first instruction to its last.
//! (The patch asked `in_nmi()`, which is set later. A machine check before that would have
//! returned by iret.) Machine checks return so, too.
//!
//! **Invariant.** No iretq executes between an NMI's delivery and its own.
//!
//! **Cost.** 47 instructions besides the body, as `naive`; 20 for a fault's return in
//! place of one, and four to six more for every other fault in the kernel.
//!
//! **Known weaknesses.** Every exception that can come to an NMI must be converted:
//! one that is not (here: the interrupt of a body that opened them) or an SMI opens NMIs, and
//! then this is `naive`.
//! Code with a red zone loses 16 bytes of it. `popfq` cannot set RF, so an
//! instruction breakpoint in the body triggers again; a TF that it sets traps after
//! `ret` (scenario `step-fault`); with IF set an interrupt comes in between, and its iret unblocks.
//!
//! Source: the thread's description (32-bit: push flags, popf, `lret $4`).

use super::Scheme;
use crate::arch::fault::handlers;
use crate::asm::Handler;

lab_note!(
    "scheme nmi-safe-return mode=native arg=SCHEME_NMI_SAFE_RETURN entry=nmi_safe_return.entry "
    "prefix=nmi_safe_return. summary=\"faults return to an NMI by popf and ret\""
);

scheme!(
    SCHEME_NMI_SAFE_RETURN =
        Scheme { faults: handlers!("safe_fault"), machine_check: MACHINE_CHECK, ..Scheme::native(entry) }
);

const MACHINE_CHECK: Handler = handler!("safe_mce.entry");

unsafe extern "C" {
    #[link_name = "nmi_safe_return.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl nmi_safe_return.entry
nmi_safe_return.entry:
    pushq $-1
nmi_safe_return.save:
    PUSH_REGS
    SAVE_CR2
    ENTER_KERNEL_GS
    cld

# RSP = T-176 → CR2, abi::Regs. The body may fault: NMIs stay blocked.
nmi_safe_return.body:
    leaq 8(%rsp), %rdi
    call nmi_body
nmi_safe_return.exit:
    LEAVE_KERNEL_GS
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp

# RSP = T-40 → the hardware frame.
nmi_safe_return.exit_iret:
    iretq

# RETURN_NMI_SAFE: a return (faults.s). Into an NMI's handler (RSP says so) by popfq and ret on the
# interrupted stack, of which the 16 bytes below RSP are lost: RIP and RFLAGS. CS and SS stay as
# they are, which is right from kernel to kernel. Whatever comes in between finds all that is still
# needed at or above RSP.
.macro RETURN_NMI_SAFE name
    TEST_USER 8
    jnz \name\()_iret
    cmpq $nmi_stack_low, 24(%rsp)
    jbe \name\()_iret
    cmpq $nmi_stack_high, 24(%rsp)
    jb \name\()_safe
\name\()_iret:
    iretq
\name\()_safe:
    pushq %rax
    pushq %rdx
    # RSP → rdx, rax, RIP, CS, RFLAGS, RSP, SS. The last two may be what is overwritten.
    movq 40(%rsp), %rax
    subq $16, %rax
    movq 16(%rsp), %rdx
    movq %rdx, 8(%rax)
    movq 32(%rsp), %rdx
    movq %rdx, (%rax)
    movq %rax, 16(%rsp)
    popq %rdx
    popq %rax
    popq %rsp
    popfq
\name\()_ret:
    ret
.endm
    FAULTS safe_fault, RETURN_NMI_SAFE
    EXTERNAL safe_mce, RETURN_NMI_SAFE
"}
