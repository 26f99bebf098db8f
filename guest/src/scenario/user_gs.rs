//! `user-gs`: user code whose GS base is in the high half, as WRGSBASE lets every program choose
//! it (Linux since 5.9). At CPL0 that base is there before SYSCALL's entry has swapped GS and again
//! before SYSRET: an entry that takes a high base for the kernel's runs its body on the user's.
//!
//! The kernel sets the base, as arch_prctl(ARCH_SET_GS) does: the instruction is not on every host.

use core::arch::global_asm;

use super::{Scenario, ud_fault, user};
use crate::arch::{cpu, gdt, user as mode};
use crate::mm::layout;

lab_note!(
    "scenario user-gs ring3 native arg=SCENARIO_USER_GS "
    "summary=\"user code with a GS base in the high half, as WRGSBASE allows; the NMI body raises #UD\""
);

scenario!(SCENARIO_USER_GS = Scenario { body: ud_fault::body, work, ..Scenario::PLAIN });

/// The user's GS base: high and canonical, with no memory of the user's within 2 GiB.
const GS_BASE: u64 = 0xffff_ffff_4000_0000;
/// What the user adds to reach its page of data: addresses wrap around.
const DISTANCE: u64 = layout::USER_DATA.wrapping_sub(GS_BASE);

extern "sysv64" fn work() -> u64 {
    const SEED: u64 = 0xfedc_ba98_7654_3210;
    unsafe extern "C" {
        #[link_name = "user_gs.start"]
        fn start();
    }
    // SAFETY: the user's page of data, which the direct map has, too.
    unsafe { user::word(0).write_volatile(SEED) };
    // SAFETY: the kernel itself reads nothing through that base.
    unsafe { cpu::write_msr(cpu::KERNEL_GS_BASE, GS_BASE) };
    let rip = start as *const () as u64;
    // SAFETY: the user code below.
    let sum = unsafe { mode::enter(rip, layout::USER_SP, mode::USER_RFLAGS, gdt::USER_CS, gdt::USER_DS) };
    // SAFETY: as above. The user leaves its own answer there, by its own GS.
    let kept = unsafe { user::word(8).read_volatile() };
    assert!(kept == sum && sum != SEED, "user code did not run");
    sum
}

global_asm!(
    r#"
    .section .user.text, "ax", @progbits

# GS's base and RCX together reach the page of data.
    .globl user_gs.start
    .type user_gs.start, @function
user_gs.start:
    movabsq ${distance}, %rcx
    movq %gs:(%rcx), %rbx
    leaq 3(%rbx,%rbx,2), %rdi
    movl ${mix}, %eax
user_gs.syscall:
    syscall
user_gs.after:
    addq %rbx, %rax
    xorq %rdi, %rax
    movabsq ${distance}, %rcx
    movq %rax, %gs:8(%rcx)
    movq %rax, %rdi
    movl ${leave}, %eax
user_gs.leave:
    syscall
    ud2
    .size user_gs.start, . - user_gs.start
    .text
"#,
    distance = const DISTANCE,
    mix = const mode::SYS_MIX,
    leave = const mode::SYS_LEAVE,
    options(att_syntax)
);
