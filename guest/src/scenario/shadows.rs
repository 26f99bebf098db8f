//! `shadows`: `mov ss` and `sti` hold an NMI back for one instruction, whatever that
//! instruction is; a second shadow in a row holds nothing back for longer.

use core::arch::global_asm;

use super::{Scenario, ud_fault};

lab_note!("scenario shadows arg=SCENARIO_SHADOWS summary=\"mov ss and sti shadows; the NMI body raises #UD\"");

scenario!(SCENARIO_SHADOWS = Scenario { body: ud_fault::body, work, ..Scenario::PLAIN });

extern "sysv64" fn work() -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "shadows.work"]
        fn shadows_work() -> u64;
    }
    // SAFETY: it keeps what the calling convention says, and IF clear.
    unsafe { shadows_work() }
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# shadows.work() -> rax: a sum. Clobbers rcx, rdx, RFLAGS; IF is clear before and after.
    .globl shadows.work
    .type shadows.work, @function
shadows.work:
    movl %ss, %edx
    movl $1, %eax
shadows.mov_ss:
    movl %edx, %ss
    incq %rax
    # The usual pair: the stack segment, then its pointer.
shadows.switch:
    movl %edx, %ss
    movq %rsp, %rsp
shadows.twice:
    movl %edx, %ss
    movl %edx, %ss
    incq %rax
shadows.before_push:
    movl %edx, %ss
    pushfq
    movl %edx, %ss
    popq %rcx
shadows.sti:
    sti
    incq %rax
    cli
shadows.sti_mov_ss:
    sti
    movl %edx, %ss
    cli
    # IF is set already: no shadow.
shadows.sti_again:
    sti
    nop
    sti
    incq %rax
    cli
shadows.return:
    ret
    .size shadows.work, . - shadows.work
    .text
"#,
    options(att_syntax)
);
