//! `short-vmalloc-fault`, `short-ud-fault`: the same bodies over a few instructions of
//! work, for searches that are to close quickly.
//!
//! A search's size is the number of interrupted contexts times that of a handler's
//! states. Handlers hardly care what they interrupt, so a short work shows nearly all
//! that the long one does.

use core::arch::global_asm;

use super::{Scenario, ud_fault, vmalloc_fault};

lab_note!(
    "scenario short-vmalloc-fault arg=SCENARIO_SHORT_VMALLOC_FAULT "
    "summary=\"vmalloc-fault over a few instructions of work\""
);
lab_note!(
    "scenario short-ud-fault arg=SCENARIO_SHORT_UD_FAULT "
    "summary=\"ud-fault over a few instructions of work\""
);

scenario!(SCENARIO_SHORT_VMALLOC_FAULT = Scenario { body: vmalloc_fault::body, work, ..Scenario::PLAIN });
scenario!(SCENARIO_SHORT_UD_FAULT = Scenario { body: ud_fault::body, work, ..Scenario::PLAIN });

pub(super) extern "sysv64" fn work() -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "short.work"]
        fn short_work(seed: u64) -> u64;
    }
    // SAFETY: it keeps what the calling convention says and touches only its stack.
    unsafe { short_work(0x0123_4567_89ab_cdef) }
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# short.work(rdi: seed) -> rax. Keeps what the calling convention says.
    .globl short.work
    .type short.work, @function
short.work:
    pushq %rbx
    leaq 5(%rdi,%rdi,2), %rbx
    call short.flags
    addq %rbx, %rax
short.shadow:
    movl %ss, %ecx
    movl %ecx, %ss
    xorq %rcx, %rax
    popq %rbx
    ret

# rdi: seed -> rax: its flags, as a word.
short.flags:
    movq %rdi, %rax
    addq %rax, %rax
    pushfq
    popq %rax
    ret

    .text
"#,
    options(att_syntax)
);
