//! `rostedt-2012`: as merged for Linux 3.3 (commit 3f3c8b8c4).
//!
//! **Layout.** Hardware frame T-40; the entry's rdx T-48; "executing" T-56; the
//! *saved* frame T-96, which nobody changes; the *copied* frame T-136, which the
//! final iret consumes and a nested NMI may rewrite; error word and registers:
//! `abi::Regs` at T-264, on top of the copied frame.
//!
//! **Idea.** A nested NMI makes the copied frame point at `repeat`, which copies
//! the saved frame anew and runs the body once more.
//!
//! **Invariant.** While the saved frame is needed, "executing" is 1 or RSP lies in
//! the NMI stack. Within [repeat, end_repeat) the copied frame is being rebuilt and
//! the body is yet to come: a nested NMI does nothing.
//!
//! **Cost.** 70 instructions besides the body for the first NMI (`naive`: 47), 17 to
//! 19 for a nested one.
//!
//! **Known weaknesses.** A user can choose RSP for the few kernel instructions
//! before SYSCALL's stack switch and after SYSRET's: in the NMI stack, and the NMI
//! is taken for nested and lost (CVE-2015-3291). A user's return that faults
//! (CVE-2015-3290, CVE-2015-5157). The registers' frame is the one that nested NMIs
//! rewrite, so the body can see `repeat` in it (28696f434fef). CR2 is not saved: an
//! NMI between a page fault and its handler's look at CR2 changes it.

use super::Scheme;
use crate::arch::{gdt, stacks};

lab_note!(
    "scheme rostedt-2012 mode=native arg=SCHEME_ROSTEDT_2012 entry=rostedt_2012.entry "
    "prefix=rostedt_2012. repeat=rostedt_2012.repeat idle=nmi_stack_low+0xfc8:8 "
    "summary=\"Linux 3.3: saved and copied frame, repeat_nmi\""
);

scheme!(SCHEME_ROSTEDT_2012 = Scheme::native(entry));

unsafe extern "C" {
    #[link_name = "rostedt_2012.entry"]
    fn entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl rostedt_2012.entry
rostedt_2012.entry:
    pushq %rdx
    # User code is never nested.
    cmpl ${kernel_cs}, 16(%rsp)
    jne rostedt_2012.first
    cmpl $1, -8(%rsp)
    je rostedt_2012.nested

# RSP = T-48; rdx is free. Not executing, yet on the NMI stack: at the final
# iret, or at repeat.
rostedt_2012.check_stack:
    leaq 48(%rsp), %rdx
    cmpq %rdx, 32(%rsp)
    ja rostedt_2012.first
    subq ${stack_size}, %rdx
    cmpq %rdx, 32(%rsp)
    jb rostedt_2012.first

# RSP = T-48; an NMI is live; rdx is free.
rostedt_2012.nested:
    cmpq $rostedt_2012.repeat, 8(%rsp)
    jb rostedt_2012.rewrite
    cmpq $rostedt_2012.end_repeat, 8(%rsp)
    jb rostedt_2012.nested_out

# The copied frame (T-136) := a return to repeat with RSP = T-96.
rostedt_2012.rewrite:
    leaq -48(%rsp), %rdx
    movq %rdx, %rsp
    pushq ${kernel_ds}
    pushq %rdx
    pushfq
    pushq ${kernel_cs}
    pushq $rostedt_2012.repeat
    addq $88, %rsp

# RSP = T-48 → rdx, hardware frame.
rostedt_2012.nested_out:
    popq %rdx
rostedt_2012.nested_iret:
    iretq

# RSP = T-48; no NMI is live. The saved frame: SS is 48 bytes up, and each push
# moves both ends.
rostedt_2012.first:
    movq (%rsp), %rdx
    pushq $1
rostedt_2012.save_frame:
    pushq 48(%rsp)
    pushq 48(%rsp)
    pushq 48(%rsp)
    pushq 48(%rsp)
    pushq 48(%rsp)

# RSP = T-96 → the saved frame; registers as in the outermost context. A nested
# NMI from here to end_repeat changes nothing: a body comes after it anyway.
# Coming by iret, executing is 0 for one instruction; RSP says that it is nested.
rostedt_2012.repeat:
    movq $1, 40(%rsp)
rostedt_2012.copy_frame:
    pushq 32(%rsp)
    pushq 32(%rsp)
    pushq 32(%rsp)
    pushq 32(%rsp)
    pushq 32(%rsp)
rostedt_2012.end_repeat:
    pushq $-1
rostedt_2012.save:
    PUSH_REGS
    # Nothing to keep here, but the call wants an aligned stack.
    subq $8, %rsp
    ENTER_KERNEL_GS
    cld

# RSP = T-272; abi::Regs one word up. rbx says whether GS was swapped. The body
# may fault.
rostedt_2012.body:
    leaq 8(%rsp), %rdi
    call nmi_body
rostedt_2012.exit:
    LEAVE_KERNEL_GS
    addq $8, %rsp
    POP_REGS
    addq $8, %rsp

# RSP = T-136 → the copied frame: the outermost context, or repeat.
rostedt_2012.exit_clear:
    movq $0, 80(%rsp)
    # Not executing any more, but the frame is needed: an NMI here is known by RSP.
rostedt_2012.exit_iret:
    iretq
",
    stack_size = stacks::NMI_STACK_SIZE,
    kernel_cs = gdt::KERNEL_CS,
    kernel_ds = gdt::KERNEL_DS,
}
