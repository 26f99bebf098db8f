//! `linus-2010`: the second sketch of the LKML thread of July 2010, with its
//! defects as they are.
//!
//! **Layout.** Hardware frame T-40; room for a nested NMI's two registers (T-48,
//! T-56) and for the CS it takes away (T-104); the frame's copy at T-144, which
//! the pointer names; error word and registers: `abi::Regs` at T-272.
//!
//! **Idea.** A flag says that an NMI is live, a pointer where its copied frame is.
//! A nested NMI sets that frame's CS to 0, so that the outer iret faults and the
//! NMI is run again; it returns without iret. The one instruction where the flag
//! is clear and the frame still needed, the final iret, is known by its RIP.
//!
//! **Invariant aimed at.** Flag set ⇔ the frame at T-144 is still needed, except
//! at `exit_iret`.
//!
//! **Cost.** 49 instructions besides the body (`naive` has 47, of which 11 are for
//! GS and CR2, which this one neglects); 14 for a nested NMI.
//!
//! **Known weaknesses.** The sketch was posted as untested. What is kept here:
//! per-CPU data is used before anybody knows whose GS it is; the flag is tested
//! before the privilege level; a rerun (`maybe_nested`) does not set the flag
//! again and keeps a poisoned CS; the nested return pops RIP into RFLAGS and jumps
//! to the value of CS; the interrupted RSP is not restored; nobody handles the
//! #GP of the poisoned iret; the body is shown CS = 0; CR2 is not saved.
//! `linus-2010-fixed` has the corrections.
//!
//! What the sketch leaves open ("regular NMI code goes here") is as in `naive`.

use super::Scheme;
use crate::arch::{gdt, percpu};

lab_note!(
    "scheme linus-2010 mode=native arg=SCHEME_LINUS_2010 entry=linus_2010.entry prefix=linus_2010. "
    "idle=PERCPU+0x0:8 summary=\"the second sketch of July 2010, defects included\""
);
lab_note!("scratch low=PERCPU+0x0 high=PERCPU+0x10 scheme=linus-2010");

scheme!(SCHEME_LINUS_2010 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "linus_2010.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's; GS is
# taken to be the kernel's.
    .globl linus_2010.entry
linus_2010.entry:
    cmpb $0, %gs:{nesting}
    jne linus_2010.nested
    # The flag is clear, but at exit_iret the frame at T-144 is still needed.
    cmpq $linus_2010.exit_iret, (%rsp)
    je linus_2010.maybe_nested

# RSP = T-40. 96 = 64 bytes of room + the offset of SS in the frame; each push
# moves both ends by one word.
linus_2010.first:
    subq $64, %rsp
linus_2010.copy_frame:
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
    pushq 96(%rsp)
linus_2010.set_flag:
    movq %rsp, %gs:{pointer}
    movb $0xff, %gs:{nesting}

# RSP = T-144 → the copied frame; registers as interrupted. Also the target of a
# rerun, which comes here with the flag clear.
linus_2010.regular:
    pushq $-1
linus_2010.save:
    PUSH_REGS
    # Not in the sketch, whose own code is assembly: compiled code needs it (I21).
    cld

# RSP = T-272 → abi::Regs, whose frame is the live one: a nested NMI's poison
# shows in it. The body may fault; NMIs are open from then on.
linus_2010.body:
    movq %rsp, %rdi
    call nmi_body
linus_2010.exit:
    POP_REGS
    addq $8, %rsp

# RSP = T-144 → the copied frame, poisoned or not; registers as interrupted.
linus_2010.exit_clear:
    movb $0, %gs:{nesting}
    # An NMI here finds the flag clear and the frame live: it knows by RIP.
linus_2010.exit_iret:
    iretq

# RSP = T-40. RIP says exit_iret; a user may have that RIP too.
linus_2010.maybe_nested:
    cmpw ${kernel_cs}, 8(%rsp)
    jne linus_2010.first
    # Run the body again for the old frame. Neither the flag nor a poisoned CS is
    # set right here.
    movq %gs:{pointer}, %rsp
    jmp linus_2010.regular

# RSP = T-40; the frame at the pointer is live. Poisons it, keeping its CS.
linus_2010.nested:
    pushq %rax
    pushq %rdx
linus_2010.poison:
    movq %gs:{pointer}, %rax
    movq 8(%rax), %rdx
    testq %rdx, %rdx
    je linus_2010.nested_out
    movq %rdx, 40(%rax)
    movq $0, 8(%rax)

# RSP = T-56 → rdx, rax, hardware frame.
linus_2010.nested_out:
    popq %rdx
    popq %rax
    # RSP → RIP now, not RFLAGS: this takes RIP for flags, and CS for the target.
    popfq
linus_2010.nested_jump:
    jmp *(%rsp)
",
    nesting = percpu::NMI_NESTING,
    pointer = percpu::NMI_STACK_PTR,
    kernel_cs = gdt::KERNEL_CS,
}
