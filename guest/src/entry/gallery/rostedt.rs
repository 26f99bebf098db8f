//! Two bugs of the scheme `rostedt-2012`, each alone, and the twin without either.
//!
//! - `bug-regs-overlap`: the frame that the body is shown is the one that nested NMIs
//!   rewrite (28696f434fef). The body sees `repeat` as the interrupted RIP.
//! - `bug-no-cr2`: CR2 is not saved ("save cr2 in NMI"). A fault in the body changes
//!   the address that an interrupted #PF handler has yet to read.
//! - `twin-rostedt`: the body has a copy of the saved frame, and CR2 is saved.
//!
//! **Layout.** That of `rostedt-2012`: hardware frame T-40, rdx T-48, "executing"
//! T-56, saved frame T-96, copied frame T-136. Where the body has a frame of its own it
//! is at T-176. Error word, `abi::Regs` and CR2, or a word in its place, follow.

use crate::arch::{gdt, stacks};
use crate::entry::Scheme;

lab_note!(
    "scheme bug-regs-overlap mode=native arg=SCHEME_BUG_REGS_OVERLAP entry=bug_regs_overlap.entry "
    "prefix=bug_regs_overlap. repeat=bug_regs_overlap.repeat idle=nmi_stack_low+0xfc8:8 "
    "gallery=28696f434fef summary=\"the body is shown the frame that nested NMIs rewrite\""
);
lab_note!(
    "scheme bug-no-cr2 mode=native arg=SCHEME_BUG_NO_CR2 entry=bug_no_cr2.entry prefix=bug_no_cr2. "
    "repeat=bug_no_cr2.repeat idle=nmi_stack_low+0xfc8:8 gallery=save-cr2-in-nmi "
    "summary=\"CR2 is not saved\""
);
lab_note!(
    "scheme twin-rostedt mode=native arg=SCHEME_TWIN_ROSTEDT entry=twin_rostedt.entry prefix=twin_rostedt. "
    "repeat=twin_rostedt.repeat idle=nmi_stack_low+0xfc8:8 gallery=repaired "
    "summary=\"rostedt-2012 with its own frame for the body, and CR2 saved\""
);

scheme!(SCHEME_BUG_REGS_OVERLAP = Scheme::native(bug_regs_overlap));
scheme!(SCHEME_BUG_NO_CR2 = Scheme::native(bug_no_cr2));
scheme!(SCHEME_TWIN_ROSTEDT = Scheme::native(twin_rostedt));

unsafe extern "C" {
    #[link_name = "bug_regs_overlap.entry"]
    fn bug_regs_overlap();
    #[link_name = "bug_no_cr2.entry"]
    fn bug_no_cr2();
    #[link_name = "twin_rostedt.entry"]
    fn twin_rostedt();
}

entry_asm! {r"
# ROSTEDT p, own_frame, cr2, body: the whole scheme, as in rostedt-2012, with labels p.….
# body: the function that is called.
# own_frame=1: the body has a copy of the saved frame; cr2=1: CR2 is saved.
# In: RSP = T-40 → hardware frame; all registers the interrupted context's.
.macro ROSTEDT p, own_frame, cr2, body=nmi_body
    .globl \p\().entry
\p\().entry:
    pushq %rdx
    cmpl ${kernel_cs}, 16(%rsp)
    jne \p\().first
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
\p\().nested:
    cmpq $\p\().repeat, 8(%rsp)
    jb \p\().rewrite
    cmpq $\p\().end_repeat, 8(%rsp)
    jb \p\().nested_out

# The copied frame := a return to repeat with RSP = T-96.
\p\().rewrite:
    leaq -48(%rsp), %rdx
    movq %rdx, %rsp
    pushq ${kernel_ds}
    pushq %rdx
    pushfq
    pushq ${kernel_cs}
    pushq $\p\().repeat
    addq $88, %rsp
\p\().nested_out:
    popq %rdx
\p\().nested_iret:
    iretq

# RSP = T-48; no NMI is live.
\p\().first:
    movq (%rsp), %rdx
    pushq $1
\p\().save_frame:
    .rept 5
    pushq 48(%rsp)
    .endr

# RSP = T-96 → the saved frame; registers as in the outermost context.
\p\().repeat:
    movq $1, 40(%rsp)
\p\().copy_frame:
    .rept 5
    pushq 32(%rsp)
    .endr
\p\().end_repeat:
    .if \own_frame
    .rept 5
    pushq 72(%rsp)
    .endr
    .endif
    pushq $-1
\p\().save:
    PUSH_REGS
    SAVE_CR2
    .if \own_frame
    # Five words more: the call wants an aligned stack.
    pushq %rax
    .endif
    ENTER_KERNEL_GS
    cld

# RSP → [a word,] CR2, abi::Regs. The body may fault.
\p\().body:
    leaq 8+8*\own_frame(%rsp), %rdi
    call \body
\p\().exit:
    LEAVE_KERNEL_GS
    addq $8*\own_frame, %rsp
    .if \cr2
    RESTORE_CR2
    .else
    addq $8, %rsp
    .endif
    POP_REGS
    addq $8+40*\own_frame, %rsp

# RSP = T-136 → the copied frame.
\p\().exit_clear:
    movq $0, 80(%rsp)
\p\().exit_iret:
    iretq
.endm

    ROSTEDT bug_regs_overlap, 0, 1
    ROSTEDT bug_no_cr2, 1, 0
    ROSTEDT twin_rostedt, 1, 1
    # Of debug_stack.rs.
    ROSTEDT bug_debug_ist, 1, 1
    ROSTEDT bug_debug_undo, 1, 1, bug_debug_undo_body
    ROSTEDT twin_debug_stack, 1, 1, twin_debug_stack_body
    # Of switched_state.rs.
    ROSTEDT twin_dr7, 1, 1, twin_dr7_body
    ROSTEDT bug_dr7_kept, 1, 1
    ROSTEDT bug_dr7_lost, 1, 1, bug_dr7_lost_body
    ROSTEDT twin_spec_ctrl, 1, 1, twin_spec_ctrl_body
    ROSTEDT bug_spec_ctrl_cs, 1, 1, bug_spec_ctrl_cs_body
    ROSTEDT bug_spec_ctrl_lost, 1, 1, bug_spec_ctrl_lost_body
    ROSTEDT twin_fpu, 1, 1, twin_fpu_body
    ROSTEDT bug_fpu_area, 1, 1, bug_fpu_area_body
    ROSTEDT bug_fpu_lost, 1, 1, bug_fpu_lost_body
",
    stack_size = stacks::NMI_STACK_SIZE,
    kernel_cs = gdt::KERNEL_CS,
    kernel_ds = gdt::KERNEL_DS,
}
