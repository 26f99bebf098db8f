//! `high-stack`: the interrupted code has DF set, on a stack that lies above the NMI stack.
//!
//! An entry that knows its own last instructions by RSP and DF must look at both ends of its
//! stack: the main stack lies below it. In Linux, the stacks of threads lie anywhere, and `memmove`
//! sets DF. RBX is zero, too: an entry that keeps a word there must put it there.

use core::arch::global_asm;

use super::Scenario;

lab_note!(
    "scenario high-stack native arg=SCENARIO_HIGH_STACK \
     summary=\"DF is set on a stack above the NMI stack; the NMI body does nothing\""
);

scenario!(SCENARIO_HIGH_STACK = Scenario { work, ..Scenario::PLAIN });

extern "sysv64" fn work() -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "high_stack.work"]
        fn high_stack_work() -> u64;
    }
    // SAFETY: it keeps what the calling convention says.
    let read = unsafe { high_stack_work() };
    assert!(read == FIRST + SECOND, "the words were not read backwards");
    read
}

const FIRST: u64 = 0x31;
const SECOND: u64 = 0x64;

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# high_stack.work() -> rax: the sum of two words of the other stack, read downwards. Clobbers rcx,
# rsi, RFLAGS; DF is clear before and after.
    .globl high_stack.work
    .type high_stack.work, @function
high_stack.work:
    pushq %rbp
    pushq %rbx
    xorl %ebx, %ebx
    movq %rsp, %rbp
    movq $high_stack_high, %rsp
high_stack.on:
    pushq ${first}
    pushq ${second}
    leaq 8(%rsp), %rsi
    std
high_stack.backwards:
    lodsq
    movq %rax, %rcx
    lodsq
    addq %rcx, %rax
    cld
high_stack.off:
    movq %rbp, %rsp
    popq %rbx
    popq %rbp
    ret
    .size high_stack.work, . - high_stack.work
    .text
"#,
    first = const FIRST,
    second = const SECOND,
    options(att_syntax)
);
