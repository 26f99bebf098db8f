//! `user-ss16`: 32-bit user code whose stack is a 16-bit segment of its LDT. An iretq to it
//! gives back bits 15:0 of RSP only; that the user finds all of its RSP again is the work of
//! another way to return (arch/espfix.rs).
//!
//! The work shows that it is about that window: with the small stack at a wrong address the
//! user must find a wrong RSP, and then, with the right one, its own. After the first part
//! the user goes on in 64-bit code with the same stack segment, and leaves.

use core::arch::global_asm;

use super::{Scenario, ud_fault, user};
use crate::arch::user::{SYS_LEAVE, USER_RFLAGS, enter};
use crate::arch::{espfix, fred_user, gdt, percpu, pv_user};
use crate::mm::layout;

lab_note!(
    "scenario user-ss16 ring3 needs=ldt-ss16 arg=SCENARIO_USER_SS16 "
    "summary=\"32-bit user code on a 16-bit stack of its LDT: iret alone does not give back its RSP (espfix)\""
);
lab_note!("code32 low=user_code_16.start high=user_code_16.long");

scenario!(SCENARIO_USER_SS16 = Scenario { body: ud_fault::body, work, ..Scenario::PLAIN });

/// Bits 31:16 are no stack's of the kernel. 16-bit pushes would go to the user's page of
/// data, the segment's base.
const RSP: u64 = 0x1234_1000;
/// A bit of 31:16 that RSP has not.
const WRONG: u64 = 1 << 16;

extern "sysv64" fn work() -> u64 {
    // The hypervisor's iret loads all of RSP, as ERETU does, and there is no small stack.
    if pv_user::in_use() || fred_user::in_use() {
        return run(RSP);
    }
    percpu::set_espfix_stack(espfix::read_at() | WRONG);
    let wrong = run(RSP | WRONG);
    percpu::set_espfix_stack(espfix::read_at());
    assert!(espfix::was_used(), "the return did not lead over the small stack");
    run(RSP).wrapping_mul(3) ^ wrong
}

/// Runs the user code below; it must find `expected` as its ESP.
fn run(expected: u64) -> u64 {
    unsafe extern "C" {
        #[link_name = "user_code_16.start"]
        fn start();
    }
    const SEED: u64 = 0x0bad_cafe;
    let [seed, seen] = [0, 24].map(user::word);
    // SAFETY: the user's page of data, which the direct map has, too.
    unsafe { seed.write_volatile(SEED) };
    let rip = start as *const () as u64;
    // SAFETY: the user code below, with segments of the LDT.
    let sum = unsafe { enter(rip, RSP, USER_RFLAGS, gdt::LDT_CS_32, gdt::LDT_SS_16) };
    // SAFETY: as above.
    let seen = unsafe { seen.read_volatile() };
    assert!(seen == expected, "user code on a 16-bit stack found another ESP than bits 31:16 of the kernel's RSP make");
    assert!(sum == ((SEED * 3 + 3) ^ expected) & 0xffff_ffff, "user code did not run");
    sum
}

const _: () = assert!(RSP & WRONG == 0 && layout::USER_DATA >> 32 == 0);

global_asm!(
    r#"
    .section .user.text, "ax", @progbits

# 32-bit code. Base of SS is the page of data; DS and ES are empty. Nothing here pushes.
    .globl user_code_16.start
    .type user_code_16.start, @function
    .code32
user_code_16.start:
    movl %esp, %ebp
    movl %ebp, %ss:24
    movl %ss:0, %ebx
    leal 3(%ebx,%ebx,2), %edi
    movl %esp, %ecx
    subl %ebp, %ecx
    # ecx is 0, unless ESP changed.
    addl %ecx, %edi
    xorl %ebp, %edi
user_code_16.jump:
    ljmp ${user_cs}, $user_code_16.long
    .size user_code_16.start, . - user_code_16.start

# 64-bit code, still with that SS. GS base is the page of data.
    .code64
    .globl user_code_16.long
    .type user_code_16.long, @function
user_code_16.long:
    movl %edi, %edi
    # Bits 63:32 of RSP are now seen, and are the CPU's own affair: take another.
user_code_16.new_stack:
    movl ${user_sp}, %esp
    movl ${leave}, %eax
user_code_16.leave:
    syscall
    ud2
    .size user_code_16.long, . - user_code_16.long
    .text
"#,
    user_cs = const gdt::USER_CS,
    leave = const SYS_LEAVE,
    user_sp = const layout::USER_SP,
    options(att_syntax)
);
