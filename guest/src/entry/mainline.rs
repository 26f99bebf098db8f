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
//! **Page tables apart for user code** (KPTI, 4.15 on; labels `mainline_kpti.…`). From user code the
//! kernel's CR3 is loaded before the thread's stack, and on the way back the frame moves to the
//! small stack that both tables have, before the user's is loaded. At CPL0 either may be loaded,
//! whatever CS says: CR3 itself says which, and the very one that was found is given back.
//!
//! **Cost.** 90 instructions besides the body for the first NMI from kernel code, the
//! latch's among them (`naive`: 50), 19 to 27 for a nested one.
//!
//! **Known weaknesses.** An unmask before the outermost frame is copied (an SMI,
//! #MC) is fatal, as in every scheme with an IST. From user code: before the frame has
//! left the NMI stack.

use super::Scheme;
use crate::arch::{gdt, percpu, rflags, stacks};
use crate::mm::split;

lab_note!(
    "scheme mainline kpti mode=native arg=SCHEME_MAINLINE entry=mainline.entry prefix=mainline. "
    "repeat=mainline.repeat,mainline_kpti.repeat idle=nmi_stack_low+0xfc8:8,PERCPU+0x0:8 "
    "summary=\"Linux since 4.2: outermost and iret frame, repeat_nmi, DF\""
);

scheme!(SCHEME_MAINLINE = Scheme { split_entry: Some(handler!("mainline_kpti.entry")), ..Scheme::native(entry) });

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

# LOAD_KERNEL_CR3 scratch: the kernel's page table of the process whose table is loaded. Clobbers
# scratch and RFLAGS.
.macro LOAD_KERNEL_CR3 scratch
    movq %cr3, \scratch
    andq ${not_user_table}, \scratch
    movq \scratch, %cr3
.endm

# LOAD_USER_CR3 scratch: the reverse.
.macro LOAD_USER_CR3 scratch
    movq %cr3, \scratch
    orq ${user_table}, \scratch
    movq \scratch, %cr3
.endm

# KEEP_CR3: r14 = the CR3 that is found; the kernel's of that process is loaded. Clobbers rax, RFLAGS.
.macro KEEP_CR3
    movq %cr3, %r14
    testl ${user_table}, %r14d
    jz .Lkernel_cr3_\@
    movq %r14, %rax
    andq ${not_user_table}, %rax
    movq %rax, %cr3
.Lkernel_cr3_\@:
.endm

# GIVE_CR3: the very CR3 that was found. Clobbers RFLAGS.
.macro GIVE_CR3
    testl ${user_table}, %r14d
    jz .Lkeep_cr3_\@
    movq %r14, %cr3
.Lkeep_cr3_\@:
.endm

# GIVE_USER_CR3: the user's, whatever was found.
.macro GIVE_USER_CR3
    LOAD_USER_CR3 %r14
.endm

# KEEP_STALE_CR3: as KEEP_CR3, but loads the kernel's table that boot remembered.
.macro KEEP_STALE_CR3
    movq %cr3, %r14
    testl ${user_table}, %r14d
    jz .Lstale_cr3_\@
    movq PERCPU + {boot_cr3}, %rax
    movq %rax, %cr3
.Lstale_cr3_\@:
.endm

# MAINLINE_ENTRY p, split, enter, leave: the scheme with labels p.….  split=1: user code has page
# tables of its own. Then \enter loads the kernel's where an NMI came to CPL0, and \leave gives back
# what was found.
.macro MAINLINE_ENTRY p, split, enter, leave
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl \p\().entry
\p\().entry:
    TEST_USER 8
    jnz \p\().from_user
\p\().from_kernel:
    pushq %rdx
    # Within repeat a body is yet to come: nothing to do, whatever the rest says.
    cmpq $\p\().repeat, 8(%rsp)
    jb \p\().check_executing
    cmpq $\p\().end_repeat, 8(%rsp)
    jb \p\().nested_out
\p\().check_executing:
    cmpl $1, -8(%rsp)
    je \p\().nested

# RSP = T-48; rdx is free. Not executing, yet on the NMI stack with DF set: at the
# final iret.
\p\().check_stack:
    leaq 48(%rsp), %rdx
    cmpq %rdx, 32(%rsp)
    ja \p\().first
    subq ${stack_size}, %rdx
    cmpq %rdx, 32(%rsp)
    jb \p\().first
    testl ${df}, 24(%rsp)
    jz \p\().first

# RSP = T-48; an NMI is live; rdx is free. The iret frame (T-96) := a return to
# repeat with RSP = T-136. T-56 is left as it is.
\p\().nested:
    subq $8, %rsp
    leaq -80(%rsp), %rdx
    pushq ${kernel_ds}
    pushq %rdx
    pushfq
    pushq ${kernel_cs}
    pushq $\p\().repeat
    addq $48, %rsp

# RSP = T-48 → rdx, hardware frame.
\p\().nested_out:
    popq %rdx
\p\().nested_iret:
    iretq

# RSP = T-48; no NMI is live. Room for the iret frame, then the outermost one: SS
# is 88 bytes up, and each push moves both ends.
\p\().first:
    movq (%rsp), %rdx
    pushq $0
    subq $40, %rsp
\p\().copy_frame:
    pushq 88(%rsp)
    pushq 88(%rsp)
    pushq 88(%rsp)
    pushq 88(%rsp)
    pushq 88(%rsp)

# RSP = T-136 → the outermost frame; registers as in the outermost context. The
# iret frame is rebuilt from it: after the addq each word is 48 bytes below the
# push that copies it.
\p\().repeat:
    movq $1, 80(%rsp)
    addq $80, %rsp
    pushq -48(%rsp)
    pushq -48(%rsp)
    pushq -48(%rsp)
    pushq -48(%rsp)
    pushq -48(%rsp)
    subq $40, %rsp
\p\().end_repeat:
    pushq $-1
\p\().save:
    PUSH_REGS
    SAVE_CR2
    \enter
    ENTER_KERNEL_GS
    cld

# RSP = T-272 → CR2, abi::Regs. rbx says whether GS was swapped, r14 is the CR3 that was found
# (split). The body may fault.
\p\().body:
    LATCHED_BODY \p\().body
\p\().exit:
    LEAVE_KERNEL_GS
    \leave
    RESTORE_CR2
    POP_REGS
    addq $48, %rsp

# RSP = T-96 → the iret frame: the outermost context, or repeat.
\p\().exit_mark:
    std
\p\().exit_clear:
    movq $0, 40(%rsp)
    # Not executing any more, but the frame is needed: known by RSP and DF.
\p\().exit_iret:
    iretq

# RSP = T-40 → a user's frame; GS is the user's. The frame moves to the thread's stack,
# which is empty: after that the NMI stack is free for another NMI.
\p\().from_user:
    swapgs
    cld
    pushq %rdx
    .if \split
\p\().user_cr3:
    LOAD_KERNEL_CR3 %rdx
    .endif
    movq %rsp, %rdx
    movq %gs:{thread_sp}, %rsp
\p\().user_copy:
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
\p\().user_body:
    LATCHED_BODY \p\().user_body
\p\().user_exit:
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp
    .if \split
# RSP → the frame, on a stack that the user's table lacks: it moves once more.
\p\().user_trampoline:
    pushq %rdi
    movq %rsp, %rdi
    movq %gs:{entry_sp}, %rsp
    pushq 40(%rdi)
    pushq 32(%rdi)
    pushq 24(%rdi)
    pushq 16(%rdi)
    pushq 8(%rdi)
    pushq (%rdi)
    LOAD_USER_CR3 %rdi
    popq %rdi
    .endif
\p\().user_swapgs:
    swapgs
    .if !\split
    ESPFIX
    .endif
\p\().user_iret:
    iretq
.endm

    MAINLINE_ENTRY mainline, 0
    MAINLINE_ENTRY mainline_kpti, 1, KEEP_CR3, GIVE_CR3
    # gallery/kpti.rs says what is wrong with each of these.
    MAINLINE_ENTRY bug_kpti_cs, 1
    MAINLINE_ENTRY bug_kpti_kernel_back, 1, KEEP_CR3
    MAINLINE_ENTRY bug_kpti_user_back, 1, KEEP_CR3, GIVE_USER_CR3
    MAINLINE_ENTRY bug_kpti_stale, 1, KEEP_STALE_CR3, GIVE_CR3
",
    stack_size = stacks::NMI_STACK_SIZE,
    kernel_cs = gdt::KERNEL_CS,
    kernel_ds = gdt::KERNEL_DS,
    df = rflags::DF,
    thread_sp = percpu::THREAD_SP,
    entry_sp = percpu::ENTRY_SP,
    boot_cr3 = percpu::BOOT_CR3,
    user_table = split::USER_TABLE,
    not_user_table = !split::USER_TABLE as i64,
    state = percpu::NMI_NESTING,
}
