//! `nmi-safe-return`: Mathieu Desnoyers's patch, which the LKML thread of July 2010
//! is about. The entry is `naive`'s; the faults return to an NMI without iret.
//!
//! **Layout.** As `naive`: `abi::Regs` at T-168, CR2 at T-176. A fault in the body
//! that returns overwrites the 16 bytes below the RSP that it interrupted.
//!
//! **Idea.** Only iret unblocks NMIs. So an exception that interrupted an NMI puts
//! RIP and RFLAGS on the interrupted stack and returns by `popfq; ret`: the CPU
//! itself goes on holding the next NMI back. The handlers know by a per-CPU flag
//! that an NMI is live.
//!
//! **Invariant.** No iretq executes between an NMI's delivery and its own.
//!
//! **Cost.** 49 instructions besides the body (`naive`: 47); ten for a fault's
//! return in place of one, and two more for every other fault in the kernel.
//!
//! **Known weaknesses.** Every exception that can come to an NMI must be converted:
//! one that is not, a machine check or an SMI opens NMIs, and then this is `naive`.
//! Code with a red zone loses 16 bytes of it. `popfq` cannot set RF, so an
//! instruction breakpoint in the body triggers again; a TF that it sets traps after
//! `ret` (scenario `step-fault`); with IF set an interrupt comes in between, and its iret unblocks.
//!
//! Source: the thread's description (32-bit: push flags, popf, `lret $4`).

use super::Scheme;
use crate::arch::fault::handlers;
use crate::arch::percpu;

lab_note!(
    "scheme nmi-safe-return mode=native arg=SCHEME_NMI_SAFE_RETURN entry=nmi_safe_return.entry "
    "prefix=nmi_safe_return. idle=PERCPU+0x0:8 summary=\"faults return to an NMI by popf and ret\""
);
lab_note!("scratch low=PERCPU+0x0 high=PERCPU+0x8 scheme=nmi-safe-return");

scheme!(SCHEME_NMI_SAFE_RETURN = Scheme { faults: handlers!("safe_fault"), ..Scheme::native(entry) });

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
nmi_safe_return.set_flag:
    movq $1, %gs:{in_nmi}

# RSP = T-176 → CR2, abi::Regs. The body may fault: NMIs stay blocked.
nmi_safe_return.body:
    leaq 8(%rsp), %rdi
    call nmi_body
nmi_safe_return.exit:
    movq $0, %gs:{in_nmi}
    # Nothing from here on faults.
    LEAVE_KERNEL_GS
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp

# RSP = T-40 → the hardware frame.
nmi_safe_return.exit_iret:
    iretq

# RETURN_NMI_SAFE: a fault's return (faults.s). Within an NMI (the per-CPU flag says so) by
# popfq and ret on the interrupted stack, of which the 16 bytes below RSP are lost:
# RIP and RFLAGS. CS and SS stay as they are, which is right from kernel to kernel.
.macro RETURN_NMI_SAFE name
    cmpq $0, %gs:{in_nmi}
    jne \name\()_safe
\name\()_iret:
    iretq
\name\()_safe:
    pushq %rax
    movq %rsp, %rax
    # rax → rax, RIP, CS, RFLAGS, RSP, SS.
    movq 32(%rax), %rsp
    pushq 8(%rax)
    pushq 24(%rax)
    movq (%rax), %rax
    popfq
\name\()_ret:
    ret
.endm
    FAULTS safe_fault, RETURN_NMI_SAFE
",
    in_nmi = percpu::NMI_NESTING,
}
