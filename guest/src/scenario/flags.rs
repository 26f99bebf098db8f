//! `flags`: the interrupted context has AC, DF, ID and NT set, and RF for one
//! instruction. NT is fatal to an iretq that executes under it. TF has a
//! scenario of its own, `single-step`.

use core::arch::global_asm;

use super::{Scenario, ud_fault};

lab_note!(
    "scenario flags arg=SCENARIO_FLAGS summary=\"AC, DF, ID, NT and RF in the interrupted context; the body raises #UD\""
);

#[unsafe(no_mangle)]
#[used]
#[unsafe(link_section = ".rodata.lab")]
static SCENARIO_FLAGS: Scenario = Scenario { body: ud_fault::body, work };

/// AC, ID, NT and DF.
const FLAGS: u64 = 1 << 18 | 1 << 21 | 1 << 14 | 1 << 10;

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
    orq $0x10000, %rdi
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
    options(att_syntax)
);
