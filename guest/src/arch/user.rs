//! User mode: the way there by `iretq`, system calls, and the way out.
//!
//! Modelled on Linux's: SYSCALL enters with the user's GS and RSP; SYSRET leaves with
//! them. In between lie the windows that entry code must survive: CPL0 with a GS base
//! or a stack pointer that the user chose.

use core::arch::global_asm;

use super::enter::enter_user;
use super::{cpu, descriptor, fred_user, gdt, kpti, percpu, pv_user, rflags, stacks};

lab_note!("stack user low=user_stack_low high=user_stack_high");

/// RFLAGS that SYSCALL clears, as in Linux: AC, NT, IOPL, DF, IF, TF.
const SYSCALL_CLEARS: u64 = rflags::AC | rflags::NT | rflags::IOPL | rflags::DF | rflags::IF | rflags::TF;
/// What RFLAGS are in user mode: interrupts are on.
pub const USER_RFLAGS: u64 = rflags::FIXED | rflags::IF;

/// Number of the system call that leaves user mode for good, with RDI as result.
pub const SYS_LEAVE: u32 = 0;
/// Number of the system call that computes a value from RDI.
pub const SYS_MIX: u32 = 1;

/// Switches system calls on.
pub fn init() {
    unsafe extern "C" {
        #[link_name = "syscall.entry"]
        fn syscall_entry();
    }
    // SYSRET loads SS with the upper selector and 8, CS with it and 16.
    let star = u64::from(gdt::USER_DS - 8) << 48 | u64::from(gdt::KERNEL_CS) << 32;
    // SAFETY: the selectors are those of the GDT.
    unsafe { cpu::write_msr(cpu::STAR, star) };
    // SAFETY: code that expects what SYSCALL leaves.
    unsafe { cpu::write_msr(cpu::LSTAR, syscall_entry as *const () as u64) };
    // SAFETY: flags that kernel code wants clear.
    unsafe { cpu::write_msr(cpu::FMASK, SYSCALL_CLEARS) };
}

/// Runs user code at `rip` until it makes [`SYS_LEAVE`]; its result.
///
/// # Safety
/// RIP must be user code, CS a user's code segment, SS its stack segment. RSP may be
/// anything: the user may choose it, too.
pub unsafe fn enter(rip: u64, rsp: u64, rflags: u64, cs: u16, ss: u16) -> u64 {
    let here = 0u64;
    assert!(&raw const here as u64 > stacks::entry_sp() + 128, "the kernel's frames reach into the entry stack");
    if fred_user::in_use() {
        // SAFETY: the caller vouches for the code.
        return unsafe { fred_user::enter(rip, rsp, rflags, cs, ss) };
    }
    if kpti::in_use() {
        // SAFETY: likewise.
        return unsafe { kpti::enter(rip, rsp, rflags, cs, ss) };
    }
    if pv_user::in_use() {
        // SAFETY: likewise.
        return unsafe { pv_user::enter(rip, rsp, rflags, cs, ss) };
    }
    // SAFETY: likewise.
    unsafe { enter_by_iretq(rip, rsp, rflags, cs, ss) }
}

enter_user! { fn enter_by_iretq = "user.enter", r"
    # The frame.
    pushq %r8
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rdi
    testb ${in_ldt}, %r8b
    jnz user.enter_espfix
user.enter_swapgs:
    swapgs
    # CPL0 with the user's GS.
user.enter_iretq:
    iretq

# The same frame, with an SS of the LDT.
user.enter_espfix:
    swapgs
    jmp espfix.return
",
    in_ldt = descriptor::IN_LDT,
}

/// [`SYS_MIX`]: a value that depends on all bits of `word`.
#[unsafe(no_mangle)]
extern "sysv64" fn sys_mix(word: u64) -> u64 {
    (word.rotate_left(9) ^ 0x5a5a).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# rax: the user's result; GS is the kernel's; RSP as user.enter kept it.
    .globl user.left
user.left:
    movl ${kernel_ds}, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

# SYSCALL: rcx = the user's RIP, r11 = its RFLAGS; RSP and GS are the user's.
# In: rax = number, rdi = argument. Out: rax = result. Clobbers rcx, r11.
    .globl syscall.entry
    .type syscall.entry, @function
syscall.entry:
    swapgs
    # GS is the kernel's, RSP whatever the user chose.
syscall.kernel_gs:
    movq %rsp, %gs:{user_rsp}
    movq %gs:{thread_sp}, %rsp
syscall.kernel_stack:
    pushq %gs:{user_rsp}
    pushq %r11
    pushq %rcx
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %rax
    testl %eax, %eax
    jz syscall.leave
syscall.call:
    call sys_mix
syscall.exit:
    addq $8, %rsp
    popq %r10
    popq %r9
    popq %r8
    popq %rdx
    popq %rsi
    popq %rdi
    popq %rcx
    popq %r11
    movq (%rsp), %rsp
    # RSP is the user's, GS the kernel's.
syscall.user_stack:
    swapgs
    # CPL0 with nothing of the kernel's.
syscall.sysretq:
    sysretq

syscall.leave:
    movq %rdi, %rax
    movq %gs:{user_return}, %rsp
    jmp user.left
    .size syscall.entry, . - syscall.entry
    .text
"#,
    user_return = const percpu::USER_RETURN,
    user_rsp = const percpu::USER_RSP,
    thread_sp = const percpu::THREAD_SP,
    kernel_ds = const gdt::KERNEL_DS,
    options(att_syntax)
);
