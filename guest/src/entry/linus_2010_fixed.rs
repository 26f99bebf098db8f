//! `linus-2010-fixed`: the second sketch of the LKML thread of July 2010 with
//! every correction it needs.
//!
//! **Layout.** Hardware frame T-40; a register of the entry's T-48; the flag
//! T-64; the outermost CS T-104; the live frame T-144…T-104, which the final iret
//! consumes; a pristine frame for the body T-184; error word; `abi::Regs` at
//! T-312; CR2 at T-320 (aligned, as the call wants).
//!
//! **Idea.** As in the sketch: a nested NMI sets the live frame's CS to 0, the
//! outer iret faults, and the #GP handler runs the body again. What differs:
//! - the flag is a word at a fixed place of the NMI stack, so that it needs no GS,
//!   can be tested before GS is known, and is cleared after the last `swapgs`;
//! - privilege is tested first: an NMI from CPL3 is never nested;
//! - the outermost CS is kept from the start, so that poisoning is one store and
//!   unpoisoning is idempotent; the body sees a pristine copy;
//! - a nested NMI returns by iretq. NMIs were open when it came, so it opens
//!   nothing;
//! - both reruns (from the final iret and from #GP) set the flag first, then take
//!   the poison away;
//! - the way from the clear flag to the rerun leads through #GP, whose handler an
//!   NMI may interrupt: flag clear, RIP elsewhere. It is known by RSP within the
//!   NMI stack together with DF, which the exit sets and no user can: SYSCALL
//!   clears DF, so a user-chosen RSP in the SYSCALL gap does not pass;
//! - DF, GS and CR2 are the kernel's in the body and the interrupted ones after.
//!
//! **Invariant.** At every boundary where NMIs may be open, one of these holds:
//! no NMI is live; or the flag is set; or RIP is `exit_iret`; or RSP lies in the
//! NMI stack, DF is set and the live frame is poisoned. In the last three the
//! live frame T-144…T-104 is intact but for its CS, which T-104 has. (RSP and DF
//! would do at `exit_iret` too; its RIP check, the heart of the sketch, saves the
//! detour by #GP.)
//!
//! **Cost.** 76 instructions besides the body for the first NMI from kernel code
//! (`naive`: 47), 6 for a nested one; a fault and a rerun if there was a nested one.
//!
//! **Known weaknesses.** A nested NMI that finds the body not begun yet causes a
//! rerun nobody needed. An unmask before the flag is first set (an SMI, #MC) is
//! fatal, as in every scheme with an IST. So is a #DB or #MC at exactly
//! `exit_iret` whose handler an NMI interrupts on another stack.
//!
//! Source: the sketch; RSP and DF as Linux does since 4.2 (commit 810bc075f78f).

use super::Scheme;
use crate::arch::{gdt, rflags, stacks};

lab_note!(
    "scheme linus-2010-fixed mode=native arg=SCHEME_LINUS_2010_FIXED entry=linus_2010_fixed.entry "
    "prefix=linus_2010_fixed. faults=gp@linus_2010_fixed.exit_iret idle=nmi_stack_low+0xfc0:8 "
    "summary=\"the second sketch of July 2010 with every correction\""
);

scheme!(SCHEME_LINUS_2010_FIXED = Scheme { general_protection: Some(general_protection), ..Scheme::native(entry) });

unsafe extern "C" {
    #[link_name = "linus_2010_fixed.entry"]
    fn entry();
    #[link_name = "linus_2010_fixed.gp"]
    fn general_protection();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's; GS
# may be a user's. Nothing here writes but T-48 and, if nested, T-136.
    .globl linus_2010_fixed.entry
linus_2010_fixed.entry:
    TEST_USER 8
    jnz linus_2010_fixed.first
    # Kernel code was interrupted. The flag (T-64) first: while it is set, the
    # live frame is there, whatever else was interrupted.
    cmpq $0, -24(%rsp)
    jne linus_2010_fixed.nested
    # The flag is clear, the live frame about to be consumed: take it back.
    cmpq $linus_2010_fixed.exit_iret, (%rsp)
    je linus_2010_fixed.rewind

# RSP = T-40, flag clear. On the NMI stack with DF set: between the faulting
# iret and the flag's second life.
linus_2010_fixed.check_stack:
    pushq %rax
    leaq 48(%rsp), %rax
    cmpq %rax, 32(%rsp)
    jae linus_2010_fixed.not_nested
    subq ${stack_size}, %rax
    cmpq %rax, 32(%rsp)
    jb linus_2010_fixed.not_nested
    testl ${df}, 24(%rsp)
    jz linus_2010_fixed.not_nested
    popq %rax

# RSP = T-40; the live frame is at T-144. Poison its CS (T-136); T-104 keeps the
# right one. In the #GP window it is poisoned already. NMIs were open at the
# interrupted instruction, so this iretq opens nothing.
linus_2010_fixed.nested:
    movq $0, -96(%rsp)
linus_2010_fixed.nested_iret:
    iretq

linus_2010_fixed.not_nested:
    popq %rax

# RSP = T-40; no NMI is live. CS to T-104, then the live frame: from T-104 the
# hardware frame's SS is 96 bytes up, and each push moves both ends.
linus_2010_fixed.first:
    subq $56, %rsp
    pushq 64(%rsp)
linus_2010_fixed.copy_frame:
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
linus_2010_fixed.set_flag:
    movq $1, 80(%rsp)

# RSP = T-144 → the live frame, flag set; registers as interrupted. The body's
# frame is copied with the CS of T-104: a nested NMI may have poisoned the live
# one again since a rerun's unpoison.
linus_2010_fixed.regular:
    pushq 32(%rsp)
    pushq 32(%rsp)
    pushq 32(%rsp)
    pushq 64(%rsp)
    pushq 32(%rsp)
    pushq $-1
linus_2010_fixed.save:
    PUSH_REGS
    SAVE_CR2
    ENTER_KERNEL_GS
    cld

# RSP = T-320 → CR2, abi::Regs. rbx says whether GS was swapped. The body may
# fault; a nested NMI touches T-56…T and T-136 only.
linus_2010_fixed.body:
    leaq 8(%rsp), %rdi
    call nmi_body
linus_2010_fixed.exit:
    LEAVE_KERNEL_GS
    RESTORE_CR2
    POP_REGS
    addq $48, %rsp

# RSP = T-144 → the live frame, poisoned or not; registers, GS and CR2 as
# interrupted; RFLAGS are the frame's. DF marks what follows as ours.
linus_2010_fixed.exit_mark:
    std
linus_2010_fixed.exit_clear:
    movq $0, 80(%rsp)
    # An NMI here is known by RIP.
linus_2010_fixed.exit_iret:
    iretq

# RSP = T-40; RIP was exit_iret, so all registers are the outermost context's.
# NMIs are blocked, as at first.
linus_2010_fixed.rewind:
    leaq -104(%rsp), %rsp

# RSP = T-144 → the live frame; registers as in the outermost context. The flag
# comes before the unpoison: a nested NMI in between poisons again, and is
# served by the body that is about to begin.
linus_2010_fixed.rearm:
    movq $1, 80(%rsp)
linus_2010_fixed.unpoison:
    pushq 40(%rsp)
    popq 8(%rsp)
    jmp linus_2010_fixed.regular

# #GP. RSP → error code, frame. Ours is the poisoned iret's: RIP exit_iret in
# kernel code, error 0, and the interrupted RSP, T-144, 48 bytes up (it is
# aligned) with CS 0 there; any other CS there is a user's bad frame. Up to rearm
# the flag is clear, and NMIs may be open: some CPUs unblock them at a faulting
# iret. Such NMIs are recognised by RSP and DF, so no cld here, and no register changes.
    .globl linus_2010_fixed.gp
linus_2010_fixed.gp:
    cmpq $linus_2010_fixed.exit_iret, 8(%rsp)
    jne fault.unhandled_general_protection
    cmpq ${kernel_cs}, 16(%rsp)
    jne fault.unhandled_general_protection
    cmpq $0, (%rsp)
    jne fault.unhandled_general_protection
    cmpq $0, 56(%rsp)
    jne fault.unhandled_general_protection
linus_2010_fixed.gp_rerun:
    addq $48, %rsp
    jmp linus_2010_fixed.rearm
",
    stack_size = stacks::NMI_STACK_SIZE,
    kernel_cs = gdt::KERNEL_CS,
    df = rflags::DF,
}
