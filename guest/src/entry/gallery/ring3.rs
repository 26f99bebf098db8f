//! Five bugs of Linux that need user code, the first three one less from each to the next.
//! All run the body of an NMI from user code on the NMI stack, as Linux did until 4.2.
//!
//! - `bug-no-cpl-check`: RSP within the NMI stack is taken for a nested NMI before CS is
//!   looked at: user code with such an RSP has its NMIs lost (45d5a1683c04).
//! - `bug-syscall-gap`: at CPL0, RSP within the NMI stack is enough. It is the user's
//!   before SYSCALL's entry has loaded its own, and again before SYSRET (CVE-2015-3291,
//!   fix 810bc075f78f: DF must be set too, which SYSCALL clears).
//! - `bug-user-nmi-stack`: has neither, and so is the others' twin. What it still has: the
//!   return to user code may fault, at CPL0 on the NMI stack with NMIs open again. The
//!   fault's frame lands on the outermost frame, and the next NMI repeats from it
//!   (CVE-2015-5157, fix 9b6e6a8334d5: NMIs from user code leave the NMI stack). Its twin
//!   is `mainline`.
//!
//! - `bug-espfix`: the same with a return to 16-bit stacks (arch/espfix.rs), which reads the
//!   frame word by word. Meanwhile "executing" is clear, and a nested NMI that the body's
//!   fault has let in is known by RSP: it makes the frame one to `repeat`, of which a part has
//!   been read already (CVE-2015-3290, the same fix). Between RIP and CS: the user's RIP with
//!   the kernel's CS. And that return's own two words lie on the outermost frame's SS and RSP
//!   (T-104, T-112). Its twin is `mainline`, which does the same on the thread's stack.
//!
//! - `bug-gs-sign`: takes a GS base in the high half for the kernel's, as Linux did as long as
//!   user code could not choose one (until 5.9: c82965f9e530). Its twin is `bug-user-nmi-stack`,
//!   which compares the base with that of this CPU's data.
//!
//! **Layout.** As `mainline`: hardware frame T-40, rdx T-48, "executing" T-56, iret frame
//! T-96, outermost frame T-136, error word, `abi::Regs` T-264, CR2 T-272.

use crate::arch::{gdt, rflags, stacks};
use crate::entry::Scheme;

lab_note!(
    "scheme bug-no-cpl-check mode=native arg=SCHEME_BUG_NO_CPL_CHECK entry=bug_no_cpl_check.entry "
    "prefix=bug_no_cpl_check. repeat=bug_no_cpl_check.repeat idle=nmi_stack_low+0xfc8:8 "
    "gallery=45d5a1683c04 summary=\"RSP in the NMI stack means nested, whoever was interrupted\""
);
lab_note!(
    "scheme bug-syscall-gap mode=native arg=SCHEME_BUG_SYSCALL_GAP entry=bug_syscall_gap.entry "
    "prefix=bug_syscall_gap. repeat=bug_syscall_gap.repeat idle=nmi_stack_low+0xfc8:8 "
    "gallery=CVE-2015-3291 summary=\"at CPL0, RSP in the NMI stack means nested\""
);
lab_note!(
    "scheme bug-user-nmi-stack mode=native arg=SCHEME_BUG_USER_NMI_STACK entry=bug_user_nmi_stack.entry prefix=bug_user_nmi_stack. "
    "repeat=bug_user_nmi_stack.repeat idle=nmi_stack_low+0xfc8:8 gallery=CVE-2015-5157 "
    "summary=\"CS first, RSP with DF; returns to user code from the NMI stack\""
);
lab_note!(
    "scheme bug-espfix mode=native arg=SCHEME_BUG_ESPFIX entry=bug_espfix.entry prefix=bug_espfix. "
    "repeat=bug_espfix.repeat idle=nmi_stack_low+0xfc8:8 gallery=CVE-2015-3290 "
    "summary=\"returns to a 16-bit user stack word by word from the NMI stack\""
);

lab_note!(
    "scheme bug-gs-sign mode=native arg=SCHEME_BUG_GS_SIGN entry=bug_gs_sign.entry prefix=bug_gs_sign. "
    "repeat=bug_gs_sign.repeat idle=nmi_stack_low+0xfc8:8 gallery=c82965f9e530 "
    "summary=\"takes a GS base in the high half for the kernel's\""
);

scheme!(SCHEME_BUG_NO_CPL_CHECK = Scheme::native(bug_no_cpl_check));
scheme!(SCHEME_BUG_SYSCALL_GAP = Scheme::native(bug_syscall_gap));
scheme!(SCHEME_BUG_USER_NMI_STACK = Scheme::native(bug_user_nmi_stack));
scheme!(SCHEME_BUG_ESPFIX = Scheme::native(bug_espfix));
scheme!(SCHEME_BUG_GS_SIGN = Scheme::native(bug_gs_sign));

unsafe extern "C" {
    #[link_name = "bug_no_cpl_check.entry"]
    fn bug_no_cpl_check();
    #[link_name = "bug_syscall_gap.entry"]
    fn bug_syscall_gap();
    #[link_name = "bug_user_nmi_stack.entry"]
    fn bug_user_nmi_stack();
    #[link_name = "bug_espfix.entry"]
    fn bug_espfix();
    #[link_name = "bug_gs_sign.entry"]
    fn bug_gs_sign();
}

entry_asm! {r"
# ENTER_KERNEL_GS_BY_SIGN: as ENTER_KERNEL_GS, for users whose bases are in the low half.
.macro ENTER_KERNEL_GS_BY_SIGN
    movl ${gs_base}, %ecx
    rdmsr
    movl $1, %ebx
    testl %edx, %edx
    js .Lkernel_gs_\@
    swapgs
    xorl %ebx, %ebx
.Lkernel_gs_\@:
.endm

# MAINLINE p, cpl, df, espfix, gs: mainline's scheme on one stack, with labels p.….
# cpl=1: an NMI from user code is never nested; df=1: RSP counts with DF only;
# espfix=1: a return to a stack segment of the LDT leads to espfix.return; gs: the macro that
# finds out whose GS it is.
# In: RSP = T-40 → hardware frame; all registers the interrupted context's.
.macro MAINLINE p, cpl, df, espfix, gs=ENTER_KERNEL_GS
    .globl \p\().entry
\p\().entry:
    pushq %rdx
    .if \cpl
    TEST_USER 16
    jnz \p\().first
    .endif
    cmpq $\p\().repeat, 8(%rsp)
    jb \p\().check_executing
    cmpq $\p\().end_repeat, 8(%rsp)
    jb \p\().nested_out
\p\().check_executing:
    cmpl $1, -8(%rsp)
    je \p\().nested

# RSP = T-48; rdx is free.
\p\().check_stack:
    leaq 48(%rsp), %rdx
    cmpq %rdx, 32(%rsp)
    ja \p\().first
    subq ${stack_size}, %rdx
    cmpq %rdx, 32(%rsp)
    jb \p\().first
    .if \df
    testl ${df_flag}, 24(%rsp)
    jz \p\().first
    .endif

# The iret frame := a return to repeat with RSP = T-136.
\p\().nested:
    subq $8, %rsp
    leaq -80(%rsp), %rdx
    pushq ${kernel_ds}
    pushq %rdx
    pushfq
    pushq ${kernel_cs}
    pushq $\p\().repeat
    addq $48, %rsp
\p\().nested_out:
    popq %rdx
\p\().nested_iret:
    iretq

# RSP = T-48; no NMI is live.
\p\().first:
    movq (%rsp), %rdx
    pushq $0
    subq $40, %rsp
\p\().copy_frame:
    .rept 5
    pushq 88(%rsp)
    .endr

# RSP = T-136 → the outermost frame; registers as in the outermost context.
\p\().repeat:
    movq $1, 80(%rsp)
    addq $80, %rsp
    .rept 5
    pushq -48(%rsp)
    .endr
    subq $40, %rsp
\p\().end_repeat:
    pushq $-1
\p\().save:
    PUSH_REGS
    SAVE_CR2
    \gs
    cld

# RSP = T-272 → CR2, abi::Regs. The body may fault.
\p\().body:
    leaq 8(%rsp), %rdi
    call nmi_body
\p\().exit:
    LEAVE_KERNEL_GS
    RESTORE_CR2
    POP_REGS
    addq $48, %rsp
    std
\p\().exit_clear:
    movq $0, 40(%rsp)
    .if \espfix
\p\().exit_espfix:
    ESPFIX
    .endif
\p\().exit_iret:
    iretq
.endm

    MAINLINE bug_no_cpl_check, 0, 0, 0
    MAINLINE bug_syscall_gap, 1, 0, 0
    MAINLINE bug_user_nmi_stack, 1, 1, 0
    MAINLINE bug_espfix, 1, 1, 1
    MAINLINE bug_gs_sign, 1, 1, 0, ENTER_KERNEL_GS_BY_SIGN
",
    stack_size = stacks::NMI_STACK_SIZE,
    kernel_cs = gdt::KERNEL_CS,
    kernel_ds = gdt::KERNEL_DS,
    df_flag = rflags::DF,
}
