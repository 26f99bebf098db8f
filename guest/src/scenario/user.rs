//! `user`: user code, two system calls with everything between SYSCALL and SYSRET, and
//! back. NMIs come from ring 3, and at CPL0 in the windows where GS or RSP are the
//! user's. The body raises #UD.

use core::arch::global_asm;

use super::{Scenario, ud_fault};
use crate::arch::{gdt, user};
use crate::mm::layout;

lab_note!(
    "scenario user ring3 arg=SCENARIO_USER "
    "summary=\"user code, SYSCALL and SYSRET with their swapgs windows; the NMI body raises #UD\""
);

scenario!(SCENARIO_USER = Scenario { body: ud_fault::body, work, ..Scenario::PLAIN });

extern "sysv64" fn work() -> u64 {
    run(layout::USER_SP, user::USER_RFLAGS, gdt::USER_CS)
}

/// Runs the user code below with `rsp` as its stack pointer and these flags, in the code segment
/// `cs`. Its result.
pub(super) fn run(rsp: u64, rflags: u64, cs: u16) -> u64 {
    const SEED: u64 = 0x0123_4567_89ab_cdef;
    let [data, answer] = [0, 8].map(word);
    // SAFETY: the user's page of data, which the direct map has, too.
    unsafe { data.write_volatile(SEED) };
    unsafe extern "C" {
        #[link_name = "user_code.start"]
        fn start();
    }
    // SAFETY: the user code below.
    let sum = unsafe { user::enter(start as *const () as u64, rsp, rflags, cs, gdt::USER_DS) };
    // SAFETY: as above. The user leaves its own answer there, by its own GS.
    let kept = unsafe { answer.read_volatile() };
    assert!(kept == sum && sum != SEED, "user code did not run");
    sum
}

/// A word of the user's data, as the kernel reaches it.
pub(super) fn word(offset: u64) -> *mut u64 {
    layout::direct(layout::user_data() + offset) as *mut u64
}

/// The stack pointer that the user code found.
pub(super) fn seen_rsp() -> u64 {
    // SAFETY: the user's page of data, which the direct map has.
    unsafe { word(16).read_volatile() }
}

global_asm!(
    r#"
    .section .user.text, "ax", @progbits

# RSP may be anything: no instruction here uses the stack. GS base is the page of data.
    .globl user_code.start
    .type user_code.start, @function
user_code.start:
    movq %gs:0, %rbx
    leaq 3(%rbx,%rbx,2), %rbp
    movl %ebx, %r12d
    movq %rbp, %r13
    bswapq %r13
    movl $0x7777, %r14d
    movq %rsp, %r15
    leaq 1(%rbx), %rdi
    movl ${mix}, %eax
user_code.syscall:
    syscall
user_code.after:
    addq %rbx, %rax
    rolq $5, %rax
    xorq %rbp, %rax
    addq %r12, %rax
    xorq %r13, %rax
    addq %r14, %rax
    movq %r15, %gs:16
    subq %rsp, %r15
    xorq %r15, %rax
    addq %rdi, %rax
    movq %rax, %gs:8
    movq %rax, %rdi
    movl ${leave}, %eax
user_code.leave:
    syscall
    ud2
    .size user_code.start, . - user_code.start
    .text
"#,
    mix = const user::SYS_MIX,
    leave = const user::SYS_LEAVE,
    options(att_syntax)
);
