//! `latch`: 32-bit Linux's three states, without an IST, as far as x86-64 allows.
//!
//! **Layout.** None of its own: the CPU pushes on the interrupted stack R (aligned to
//! 16), frame R-40, `abi::Regs` R-168, CR2 R-176. A nested NMI's frame lies below
//! and overwrites nothing.
//!
//! **Idea.** A per-CPU word is NOT_RUNNING (0), EXECUTING (1) or LATCHED (2). An NMI
//! that finds it not 0 sets it to 2 and returns by iretq. The first one runs the
//! body, puts CR2 back and counts down: from 2 it comes to 1, and the body runs once
//! more.
//!
//! **Invariant.** Frames never overlap, so each return is always safe. State ≠ 0 ⇔ a
//! body is running or about to begin.
//!
//! **Cost.** 53 instructions besides the body (`naive`: 47), 45 for a nested NMI: the
//! state is per-CPU, so GS must be known, so registers must be free first.
//!
//! **How far x86-64 allows it.** The kernel must own RSP wherever an NMI can come.
//! On 32 bits entry from user code always loads it from the TSS; SYSCALL does not.
//! For the few instructions before the stack switch and after it on the way back
//! RSP is the user's, and the CPU pushes the frame there, at CPL0. So does a kernel
//! stack that is full: #DF, as the frame cannot be pushed, and no IST to go to.
//! 32-bit code also has no red zone. All scenarios at CPL0 are within reach.
//!
//! **Known weaknesses.** Besides these: after the count down to 0 nothing says that
//! an NMI is live. Where a fault in the body has opened NMIs, one that comes before
//! the iretq is a first one again, on the stack below: the depth is not bounded by a
//! constant, but by how often NMIs hit those instructions in a row. On the small stack of
//! arch/espfix.rs, which is read-only, there is nowhere to push to: #DF.
//!
//! Source: the 32-bit `do_nmi` of Linux, arch/x86/kernel/nmi.c, as described.

use super::Scheme;
use crate::arch::percpu;

lab_note!(
    "scheme latch mode=native arg=SCHEME_LATCH entry=latch.entry prefix=latch. idle=PERCPU+0x0:8 "
    "summary=\"no IST, three states: not running, executing, latched\""
);
lab_note!("scratch low=PERCPU+0x0 high=PERCPU+0x8 scheme=latch");

scheme!(SCHEME_LATCH = Scheme { ist: 0, ..Scheme::native(entry) });

unsafe extern "C" {
    #[link_name = "latch.entry"]
    fn entry();
}

entry_asm! {r"
# RSP → hardware frame, on the interrupted stack; all registers the interrupted
# context's.
    .globl latch.entry
latch.entry:
    pushq $-1
latch.save:
    PUSH_REGS
    ENTER_KERNEL_GS
    cld
latch.check_state:
    cmpq $0, %gs:{state}
    jne latch.nested
latch.first:
    movq $1, %gs:{state}
    SAVE_CR2

# RSP → CR2, abi::Regs. The body may fault: NMIs are open from then on.
latch.body:
    leaq 8(%rsp), %rdi
    call nmi_body
    # A nested NMI has no fault, so CR2 is ours to put back before the state drops.
latch.restore_cr2:
    movq (%rsp), %rax
    movq %rax, %cr2
latch.count_down:
    decq %gs:{state}
    jnz latch.body
    addq $8, %rsp

# RSP → abi::Regs; rbx says whether GS was swapped. An NMI here is a first one.
latch.exit:
    LEAVE_KERNEL_GS
    POP_REGS
    addq $8, %rsp
latch.exit_iret:
    iretq

# RSP → abi::Regs. A body is live, or about to count down.
latch.nested:
    movq $2, %gs:{state}
    jmp latch.exit
",
    state = percpu::NMI_NESTING,
}
