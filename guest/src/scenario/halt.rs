//! `halt`: the work waits by HLT for what an NMI may bring, as an idle loop does. An NMI wakes the
//! CPU, and goes back to after the HLT. Without one the lab wakes it (`halts=`).

use core::arch::global_asm;

use super::Scenario;

lab_note!(
    "scenario halt native halts=halt.wait arg=SCENARIO_HALT "
    "summary=\"the work waits by HLT, which an NMI ends; the NMI body does nothing\""
);

scenario!(SCENARIO_HALT = Scenario { body, work, ..Scenario::PLAIN });

extern "sysv64" fn body() {}

extern "sysv64" fn work() -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "halt.work"]
        fn halt_work() -> u64;
    }
    // SAFETY: it keeps what the calling convention says.
    unsafe { halt_work() }
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# halt.work() -> rax: how often it was woken. Clobbers RFLAGS.
    .globl halt.work
    .type halt.work, @function
halt.work:
    xorl %eax, %eax
    .globl halt.wait
halt.wait:
    hlt
halt.woken:
    incl %eax
    cmpl $3, %eax
    jb halt.wait
    ret
    .size halt.work, . - halt.work
    .text
"#,
    options(att_syntax)
);
