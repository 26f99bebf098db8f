//! The work that NMIs interrupt: real kernel code whose result can be checked.
//!
//! It is short, since each of its instructions is a boundary to inject at, and
//! it uses every register, the stack, flags, the slab, fork, vmalloc and root
//! switches. Its checksum depends on all of that and on no NMI.

use core::arch::global_asm;

use crate::arch::percpu;
use crate::heap::{self, WORDS};
use crate::mm::{process, vmalloc};

/// Runs the work; its checksum.
pub extern "sysv64" fn run() -> u64 {
    let object = heap::allocate();
    let mut sum = registers(0x0123_4567_89ab_cdef, object.address());

    // A child, and then an area that is even newer: the child lacks it.
    let child = process::fork();
    let area = vmalloc::allocate(vmalloc::frame());
    process::switch(child);
    // SAFETY: the area just mapped; the child's own page fault brings it.
    unsafe { area.write_volatile(sum) };
    sum = mix(sum, object.get(WORDS - 1));
    // SAFETY: as above.
    sum = mix(sum, unsafe { area.read_volatile() });

    // The parent lacks the area too, but only an NMI's body may find out.
    process::switch(process::FIRST);
    heap::free(object);
    percpu::run_deferred();
    sum
}

fn mix(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(7) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Fills all registers from `seed`, works on them, and folds them into the
/// result; uses the eight words at `object`.
fn registers(seed: u64, object: u64) -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "work.registers"]
        fn work_registers(seed: u64, object: u64) -> u64;
    }
    // SAFETY: it keeps what the calling convention says and writes only the
    // object's words.
    unsafe { work_registers(seed, object) }
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# work.registers(rdi: seed, rsi: object of eight words) -> rax
# Keeps rbx, rbp, r12–r15; leaves DF and IF clear.
    .globl work.registers
    .type work.registers, @function
work.registers:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rsi
work.fill:
    movq %rdi, %rax
    leaq 3(%rax,%rax,2), %rbx
    leaq 5(%rbx), %rcx
    movl %eax, %edx
    leaq (%rbx,%rcx), %rbp
    movq %rsp, %r8
    notq %r8
    xorq %rsp, %r8
    leaq 7(%rdx,%rdx), %r9
    leaq (%rax,%r9), %r10
    movzwl %ax, %r11d
    leaq 1(%r11), %r12
    movq %rbp, %r13
    bswapq %r13
    movl $0x5a5a, %r14d
    movq %rdx, %r15
work.flags:
    # Carry travels through memory: pushfq, popfq, rcl, adc.
    addq %rax, %rax
    pushfq
    addq %rbx, %rcx
    adcq %rcx, %rdx
    popfq
    rclq $1, %rbp
    adcq %r9, %r10
    pushq %r10
    pushq %r15
    call work.leaf
    popq %r14
    popq %r13
work.copy:
    # Three quadwords of text into the object, upwards.
    movq (%rsp), %rdi
    leaq work.text(%rip), %rsi
    movl $3, %ecx
    rep movsq
work.backwards:
    # DF set: an entry that relies on it being clear fails here.
    std
    movq (%rsp), %rdi
    addq $56, %rdi
    leaq 16+work.text(%rip), %rsi
    movsq
    cld
work.shadow:
    # Stack segment and interrupt flag: the two shadows.
    movl %ss, %edx
    movl %edx, %ss
    pushq %r11
    popq %r12
    sti
    xorq %r12, %r13
    cli
work.fold:
    popq %rdi
    addq %rbx, %rax
    rolq $5, %rax
    xorq %rcx, %rax
    addq %rdx, %rax
    xorq %rbp, %rax
    addq %rsi, %rax
    subq $work.text, %rax
    xorq 16(%rdi), %rax
    addq %r8, %rax
    rolq $9, %rax
    xorq %r9, %rax
    addq %r10, %rax
    xorq %r11, %rax
    addq %r12, %rax
    xorq %r13, %rax
    addq %r14, %rax
    sbbq %r15, %rax
work.return:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
    .size work.registers, . - work.registers

# work.leaf: exchanges r11 and the word above the return address; keeps the rest
# but RFLAGS.
    .type work.leaf, @function
work.leaf:
    pushq %rbp
    movq %rsp, %rbp
    xchgq %r11, 16(%rbp)
    popq %rbp
    ret
    .size work.leaf, . - work.leaf

    .section .rodata
    .balign 8
work.text:
    .ascii "every boundary, any NMI."
    .text
"#,
    options(att_syntax)
);
