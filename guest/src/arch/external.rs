//! What comes from outside besides NMIs: machine checks, which nothing masks, and a maskable
//! interrupt. Their handlers return by iretq, which unmasks NMIs, whatever was interrupted.
//!
//! Both find out whose GS they have as an NMI's handler must, since they may interrupt the same
//! code: a machine check comes between SYSCALL's entry and its swapgs, too.

use crate::asm::Handler;

/// Of machine checks. It runs on a stack of its own.
pub const MACHINE_CHECK: Handler = handler!("mce.entry");
/// Of the maskable interrupt, on the interrupted stack.
pub const INTERRUPT: Handler = handler!("irq.entry");
/// Of machine checks, without the register that says whether GS was swapped.
pub const LOSES_RBX: Handler = handler!("mce_loses_rbx.entry");
/// Of machine checks; swaps GS by the privilege level of what it interrupted.
pub const GS_BY_CS: Handler = handler!("mce_gs_by_cs.entry");

entry_asm! {r"
    EXTERNAL mce, RETURN_IRETQ
    EXTERNAL irq, RETURN_IRETQ

# As EXTERNAL, but RBX is lost.
    .globl mce_loses_rbx.entry
mce_loses_rbx.entry:
    pushq %rax
    pushq %rcx
    pushq %rdx
    ENTER_KERNEL_GS
    movb $1, %gs:{external_seen}
    LEAVE_KERNEL_GS
    popq %rdx
    popq %rcx
    popq %rax
mce_loses_rbx.exit_iret:
    iretq

# Takes GS for the kernel's wherever CS is.
    .globl mce_gs_by_cs.entry
mce_gs_by_cs.entry:
    TEST_USER 8
    jz mce_gs_by_cs.body
    swapgs
mce_gs_by_cs.body:
    movb $1, %gs:{external_seen}
    TEST_USER 8
    jz mce_gs_by_cs.exit_iret
    swapgs
mce_gs_by_cs.exit_iret:
    iretq
"}
