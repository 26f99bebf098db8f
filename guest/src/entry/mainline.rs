//! `mainline`: Linux since 4.2 (commits 9b6e6a8334d5, 0b22930ebad5, 810bc075f78f).
//!
//! **From user code** the stack of the thread is empty: the frame is copied there, and
//! the body runs as in any other exception. Whatever the body's faults unmask then
//! finds the kernel path free, so what keeps bodies apart is a latch of three states
//! around the body: not running, executing, latched (`exc_nmi` in Linux). A 16-bit
//! user stack is returned to as from any other exception (arch/espfix.rs).
//!
//! **Layout** (from kernel code). Hardware frame T-40; the entry's rdx T-48;
//! "executing" T-56; the *iret* frame T-96, which the final iret consumes and a
//! nested NMI may rewrite; the *outermost* frame T-136, which nobody changes; error
//! word and registers: `abi::Regs` at T-264, on top of the outermost frame; CR2 at
//! T-272.
//!
//! **Idea.** As `rostedt-2012`, with the two frames exchanged, so that the body's
//! registers show the outermost context whatever nested NMIs do. RSP within the
//! NMI stack counts as nested only with DF set: the exit sets it, and SYSCALL
//! clears it, so that a user-chosen RSP in the SYSCALL gap is not taken for ours.
//!
//! **Invariant.** While the outermost frame is needed: RIP is within
//! [repeat, end_repeat), or "executing" is 1, or RSP lies in the NMI stack and DF
//! is set.
//!
//! **Cost.** 90 instructions besides the body for the first NMI from kernel code, the
//! latch's among them (`naive`: 50), 19 to 27 for a nested one.
//!
//! **Known weaknesses.** An unmask before the outermost frame is copied (an SMI,
//! #MC) is fatal, as in every scheme with an IST. From user code: before the frame has
//! left the NMI stack.

use super::Scheme;
use crate::arch::{gdt, percpu, rflags, stacks};

lab_note!(
    "scheme mainline mode=native arg=SCHEME_MAINLINE entry=mainline.entry prefix=mainline. "
    "repeat=mainline.repeat idle=nmi_stack_low+0xfc8:8,PERCPU+0x0:8 "
    "summary=\"Linux since 4.2: outermost and iret frame, repeat_nmi, DF\""
);

scheme!(SCHEME_MAINLINE = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "mainline.entry"]
    fn entry();
}

entry_asm! {r"
# LATCHED_BODY name: the body, one at a time. In: RSP → CR2, abi::Regs; GS is the
# kernel's. Clobbers what the return brings back, but rbx.
.macro LATCHED_BODY name
    cmpq $0, %gs:{state}
    jne \name\()_latch
    movq $1, %gs:{state}
    leaq 8(%rsp), %r12
\name\()_again:
    movq %r12, %rdi
    call nmi_body
    # 1 → 0: done. 2 → 1: another one came meanwhile. An NMI before this instruction
    # is seen by it, one after it finds 0 and has a body of its own.
    decq %gs:{state}
    jnz \name\()_again
    jmp \name\()_done
\name\()_latch:
    movq $2, %gs:{state}
\name\()_done:
.endm

# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl mainline.entry
mainline.entry:
    TEST_USER 8
    jnz mainline.from_user
mainline.from_kernel:
    pushq %rdx
    # Within repeat a body is yet to come: nothing to do, whatever the rest says.
    cmpq $mainline.repeat, 8(%rsp)
    jb mainline.check_executing
    cmpq $mainline.end_repeat, 8(%rsp)
    jb mainline.nested_out
mainline.check_executing:
    cmpl $1, -8(%rsp)
    je mainline.nested

# RSP = T-48; rdx is free. Not executing, yet on the NMI stack with DF set: at the
# final iret.
mainline.check_stack:
    leaq 48(%rsp), %rdx
    cmpq %rdx, 32(%rsp)
    ja mainline.first
    subq ${stack_size}, %rdx
    cmpq %rdx, 32(%rsp)
    jb mainline.first
    testl ${df}, 24(%rsp)
    jz mainline.first

# RSP = T-48; an NMI is live; rdx is free. The iret frame (T-96) := a return to
# repeat with RSP = T-136. T-56 is left as it is.
mainline.nested:
    subq $8, %rsp
    leaq -80(%rsp), %rdx
    pushq ${kernel_ds}
    pushq %rdx
    pushfq
    pushq ${kernel_cs}
    pushq $mainline.repeat
    addq $48, %rsp

# RSP = T-48 → rdx, hardware frame.
mainline.nested_out:
    popq %rdx
mainline.nested_iret:
    iretq

# RSP = T-48; no NMI is live. Room for the iret frame, then the outermost one: SS
# is 88 bytes up, and each push moves both ends.
mainline.first:
    movq (%rsp), %rdx
    pushq $0
    subq $40, %rsp
mainline.copy_frame:
    pushq 88(%rsp)
    pushq 88(%rsp)
    pushq 88(%rsp)
    pushq 88(%rsp)
    pushq 88(%rsp)

# RSP = T-136 → the outermost frame; registers as in the outermost context. The
# iret frame is rebuilt from it: after the addq each word is 48 bytes below the
# push that copies it.
mainline.repeat:
    movq $1, 80(%rsp)
    addq $80, %rsp
    pushq -48(%rsp)
    pushq -48(%rsp)
    pushq -48(%rsp)
    pushq -48(%rsp)
    pushq -48(%rsp)
    subq $40, %rsp
mainline.end_repeat:
    pushq $-1
mainline.save:
    PUSH_REGS
    SAVE_CR2
    ENTER_KERNEL_GS
    cld

# RSP = T-272 → CR2, abi::Regs. rbx says whether GS was swapped. The body may
# fault.
mainline.body:
    LATCHED_BODY mainline.body
mainline.exit:
    LEAVE_KERNEL_GS
    RESTORE_CR2
    POP_REGS
    addq $48, %rsp

# RSP = T-96 → the iret frame: the outermost context, or repeat.
mainline.exit_mark:
    std
mainline.exit_clear:
    movq $0, 40(%rsp)
    # Not executing any more, but the frame is needed: known by RSP and DF.
mainline.exit_iret:
    iretq

# RSP = T-40 → a user's frame; GS is the user's. The frame moves to the thread's stack,
# which is empty: after that the NMI stack is free for another NMI.
mainline.from_user:
    swapgs
    cld
    pushq %rdx
    movq %rsp, %rdx
    movq %gs:{thread_sp}, %rsp
mainline.user_copy:
    pushq 40(%rdx)
    pushq 32(%rdx)
    pushq 24(%rdx)
    pushq 16(%rdx)
    pushq 8(%rdx)
    movq (%rdx), %rdx
    pushq $-1
    PUSH_REGS
    SAVE_CR2

# RSP → CR2, abi::Regs on the thread's stack. The body may fault.
mainline.user_body:
    LATCHED_BODY mainline.user_body
mainline.user_exit:
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp
mainline.user_swapgs:
    swapgs
    ESPFIX
mainline.user_iret:
    iretq
",
    stack_size = stacks::NMI_STACK_SIZE,
    kernel_cs = gdt::KERNEL_CS,
    kernel_ds = gdt::KERNEL_DS,
    df = rflags::DF,
    thread_sp = percpu::THREAD_SP,
    state = percpu::NMI_NESTING,
}
