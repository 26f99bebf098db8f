//! `linus-2010-first`: the first sketch of the LKML thread of July 2010, in which the
//! saved stack pointer is itself the flag.
//!
//! **Layout.** As `linus-2010`: hardware frame T-40; two registers of a nested NMI
//! T-56; room for the CS it takes away T-104; the frame's copy T-144, which the
//! pointer names; `abi::Regs` T-272.
//!
//! **Idea.** The pointer to the copied frame is not 0 ⇔ an NMI is live. A nested NMI
//! sets that frame's CS to 0; the exit clears the pointer, then irets.
//!
//! **Invariant aimed at.** Pointer set ⇔ the frame at T-144 is still needed. It does
//! not hold at `exit_iret`, and nothing else says so.
//!
//! **Cost.** 45 instructions besides the body (`naive`: 47, of which 12 are for GS,
//! CR2, which this one neglects); 14 for a nested NMI.
//!
//! **Known weaknesses.** An NMI at `exit_iret` finds the pointer 0, is taken for a
//! first one, and copies its own frame to T-144: over the one that the interrupted
//! iretq was about to consume. It now says: go to `exit_iret` with RSP = T-144. That
//! is iretq to itself for ever. Then the weaknesses of `linus-2010`: nobody handles
//! the poisoned iret's #GP, the nested return pops RIP into RFLAGS, and the rest.
//!
//! The mail itself was not at hand: this is written from the description of what
//! the second sketch changed.

use super::Scheme;
use crate::arch::percpu;

lab_note!(
    "scheme linus-2010-first mode=native arg=SCHEME_LINUS_2010_FIRST entry=linus_2010_first.entry "
    "prefix=linus_2010_first. idle=PERCPU+0x8:8 summary=\"the first sketch of July 2010: the pointer is the flag\""
);
lab_note!("scratch low=PERCPU+0x0 high=PERCPU+0x10 scheme=linus-2010-first");

scheme!(SCHEME_LINUS_2010_FIRST = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "linus_2010_first.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's; GS is
# taken to be the kernel's.
    .globl linus_2010_first.entry
linus_2010_first.entry:
    cmpq $0, %gs:{pointer}
    jne linus_2010_first.nested

# RSP = T-40. 96 = 64 bytes of room + the offset of SS in the frame; each push
# moves both ends by one word.
linus_2010_first.first:
    subq $64, %rsp
linus_2010_first.copy_frame:
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
linus_2010_first.set_pointer:
    movq %rsp, %gs:{pointer}

# RSP = T-144 → the copied frame; registers as interrupted.
linus_2010_first.regular:
    pushq $-1
linus_2010_first.save:
    PUSH_REGS
    # Not in the sketch, whose own code is assembly: compiled code needs it (I21).
    cld

# RSP = T-272 → abi::Regs, whose frame is the live one. The body may fault; NMIs
# are open from then on.
linus_2010_first.body:
    movq %rsp, %rdi
    call nmi_body
linus_2010_first.exit:
    POP_REGS
    addq $8, %rsp

# RSP = T-144 → the copied frame, poisoned or not; registers as interrupted.
linus_2010_first.exit_clear:
    movq $0, %gs:{pointer}
    # An NMI here is taken for a first one.
linus_2010_first.exit_iret:
    iretq

# RSP = T-40; the frame at the pointer is live. Poisons it, keeping its CS.
linus_2010_first.nested:
    pushq %rax
    pushq %rdx
linus_2010_first.poison:
    movq %gs:{pointer}, %rax
    movq 8(%rax), %rdx
    testq %rdx, %rdx
    je linus_2010_first.nested_out
    movq %rdx, 40(%rax)
    movq $0, 8(%rax)

# RSP = T-56 → rdx, rax, hardware frame.
linus_2010_first.nested_out:
    popq %rdx
    popq %rax
    # RSP → RIP now, not RFLAGS: this takes RIP for flags, and CS for the target.
    popfq
linus_2010_first.nested_jump:
    jmp *(%rsp)
",
    pointer = percpu::NMI_STACK_PTR,
}
