//! `naive`: save, run the body, iretq.
//!
//! **Layout.** The hardware frame at T-40, then error word and registers:
//! `abi::Regs` at T-168, CR2 at T-176 (16-byte aligned, as the call wants).
//!
//! **Invariant.** No iretq executes between an NMI's delivery and its own.
//!
//! **Cost.** 47 instructions besides the body, none of them for nesting.
//!
//! **Known weaknesses.** Any fault in the body returns by iretq, which unmasks
//! NMIs. The next one starts at T again and overwrites the frame and the saved
//! registers of the first, which then returns to wherever the second came from:
//! into its own body. That is the problem which the LKML thread of July 2010 is
//! about; Linux had it until 3.3 (commit 3f3c8b8c4).

use super::Scheme;
use crate::asm::Handler;

lab_note!(
    "scheme naive mode=native arg=SCHEME_NAIVE entry=naive.entry prefix=naive. "
    "summary=\"save, run the body, iretq\""
);

scheme!(SCHEME_NAIVE = Scheme::native(ENTRY));

/// The handler.
pub const ENTRY: Handler = naive_entry;

unsafe extern "C" {
    #[link_name = "naive.entry"]
    fn naive_entry();
}

entry_asm! {r"
# RSP = T-40 → hardware frame. All registers are the interrupted context's.
    .globl naive.entry
naive.entry:
    pushq $-1
naive.save:
    PUSH_REGS
    SAVE_CR2
    ENTER_KERNEL_GS
    cld

# RSP = T-176 → CR2, abi::Regs. rbx says whether GS was swapped. The body may
# fault: the fault's iretq unmasks NMIs, and from there to exit_iret a further
# NMI begins at naive.entry with RSP = T-40 and overwrites all of this.
naive.body:
    leaq 8(%rsp), %rdi
    call nmi_body

# The same stack. Clobbers what restore brings back.
naive.exit:
    LEAVE_KERNEL_GS
    RESTORE_CR2
    POP_REGS
    addq $8, %rsp

# RSP = T-40 → the hardware frame, or what a nested NMI made of it.
naive.exit_iret:
    iretq
"}
