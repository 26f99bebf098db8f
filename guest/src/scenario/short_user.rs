//! `short-user`: a few instructions of user code with DF set and RSP inside the NMI stack, and a
//! system call that leaves them for good. The body touches vmalloc memory, whose #PF writes CR2.
//!
//! Nearly all that `user` and `user-rsp` show, in a search that closes quickly; and what only a body
//! that writes CR2 shows of the way from user code.

use core::arch::global_asm;

use super::{Scenario, user_rsp, vmalloc_fault};
use crate::arch::{gdt, rflags, user};

lab_note!(
    "scenario short-user ring3 arg=SCENARIO_SHORT_USER "
    "summary=\"a few instructions of user code with DF set and RSP in the NMI stack; a vmalloc fault in the body\""
);

scenario!(SCENARIO_SHORT_USER = Scenario { body: vmalloc_fault::body, work, ..Scenario::PLAIN });

extern "sysv64" fn work() -> u64 {
    unsafe extern "C" {
        #[link_name = "short_user.start"]
        fn start();
    }
    let (rip, flags) = (start as *const () as u64, user::USER_RFLAGS | rflags::DF);
    // SAFETY: the user code below.
    let sum = unsafe { user::enter(rip, user_rsp::in_nmi_stack(), flags, gdt::USER_CS, gdt::USER_DS) };
    assert!(sum == ANSWER, "user code did not run");
    sum
}

const ANSWER: u64 = 0x77;

global_asm!(
    r#"
    .section .user.text, "ax", @progbits

    .globl short_user.start
    .type short_user.start, @function
short_user.start:
    movl ${answer}, %edi
    movl ${leave}, %eax
short_user.leave:
    syscall
    ud2
    .size short_user.start, . - short_user.start
    .text
"#,
    answer = const ANSWER,
    leave = const user::SYS_LEAVE,
    options(att_syntax)
);
