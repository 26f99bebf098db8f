//! `flags`: the interrupted context has AC, DF, ID and NT set, and RF for one
//! instruction. NT is fatal to an iretq that executes under it. TF has a
//! scenario of its own, `single-step`.

use core::arch::global_asm;

use super::{Scenario, ud_fault};
use crate::arch::rflags;

lab_note!(
    "scenario flags arg=SCENARIO_FLAGS summary=\"AC, DF, ID, NT and RF in the interrupted context; the body raises #UD\""
);

scenario!(SCENARIO_FLAGS = Scenario { body: ud_fault::body, work, ..Scenario::PLAIN });

/// The flags that `popfq` can set.
const FLAGS: u64 = rflags::AC | rflags::ID | rflags::NT | rflags::DF;

extern "sysv64" fn work() -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "flags.work"]
        fn flags_work() -> u64;
    }
    // SAFETY: it keeps what the calling convention says.
    let seen = unsafe { flags_work() };
    assert!(seen & FLAGS == FLAGS, "the flags were never set");
    seen
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# flags.work() -> rax: RFLAGS as seen with all of them set.
# Clobbers rcx, rdx, rsi, rdi; leaves RFLAGS as they were.
    .globl flags.work
    .type flags.work, @function
flags.work:
    pushfq
    popq %rdx
    movq %rdx, %rax
    orq ${flags}, %rax
    pushq %rax
flags.set:
    popfq
flags.under:
    nop
    pushfq
    popq %rax
    pushq %rdx
flags.clear:
    popfq
    # RF can only be set by a frame.
flags.rf:
    movl %ss, %ecx
    movq %rsp, %rsi
    movq %rdx, %rdi
    orq ${rf}, %rdi
    pushq %rcx
    pushq %rsi
    pushq %rdi
    movl %cs, %ecx
    pushq %rcx
    pushq $flags.rf_target
flags.rf_iret:
    iretq
flags.rf_target:
    nop
flags.return:
    ret
    .size flags.work, . - flags.work
    .text
"#,
    flags = const FLAGS,
    rf = const rflags::RF,
    options(att_syntax)
);
