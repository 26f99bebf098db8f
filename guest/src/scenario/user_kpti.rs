//! `user-kpti`: user code that has page tables of its own (KPTI), in one process and then in
//! another. NMIs come from ring 3, and at CPL0 in the windows where CR3, GS or RSP are the user's:
//! before SYSCALL's entry has loaded the kernel's table, and after its exit and the way in have
//! loaded the user's. The body raises #UD.

use core::arch::global_asm;

use super::{Scenario, ud_fault, user};
use crate::arch::{gdt, user as mode};
use crate::mm::{layout, process};

lab_note!(
    "scenario user-kpti ring3 native kpti arg=SCENARIO_USER_KPTI "
    "summary=\"user code with page tables of its own, in two processes; the NMI body raises #UD\""
);

scenario!(SCENARIO_USER_KPTI = Scenario { body: ud_fault::body, work, split: true, ..Scenario::PLAIN });

extern "sysv64" fn work() -> u64 {
    let child = process::fork();
    process::give_user(child);
    let first = run(0x0123_4567_89ab_cdef);
    process::switch(child);
    let second = run(first);
    process::switch(process::FIRST);
    second
}

/// Runs the user code below in the current process; its result.
fn run(seed: u64) -> u64 {
    unsafe extern "C" {
        #[link_name = "user_kpti.start"]
        fn start();
    }
    // SAFETY: the user's page of data, which the direct map has, too.
    unsafe { user::word(0).write_volatile(seed) };
    let rip = start as *const () as u64;
    // SAFETY: the user code below.
    let sum = unsafe { mode::enter(rip, layout::USER_SP, mode::USER_RFLAGS, gdt::USER_CS, gdt::USER_DS) };
    // SAFETY: as above. The user leaves its own answer there, by its own GS.
    let kept = unsafe { user::word(8).read_volatile() };
    assert!(kept == sum && sum != seed, "user code did not run");
    sum
}

global_asm!(
    r#"
    .section .user.text, "ax", @progbits

# GS base is the page of data.
    .globl user_kpti.start
    .type user_kpti.start, @function
user_kpti.start:
    movq %gs:0, %rbx
    leaq 3(%rbx,%rbx,2), %rdi
    movl ${mix}, %eax
user_kpti.syscall:
    syscall
user_kpti.after:
    addq %rbx, %rax
    xorq %rdi, %rax
    movq %rax, %gs:8
    movq %rax, %rdi
    movl ${leave}, %eax
user_kpti.leave:
    syscall
    ud2
    .size user_kpti.start, . - user_kpti.start
    .text
"#,
    mix = const mode::SYS_MIX,
    leave = const mode::SYS_LEAVE,
    options(att_syntax)
);
