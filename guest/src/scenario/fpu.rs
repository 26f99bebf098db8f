//! `fpu`: the work uses a vector register as kernel code does, between a begin that saves the
//! interrupted task's and an end that restores it; the NMI's body uses the same register, and saves
//! it on its own stack. It raises #UD meanwhile, whose iretq unmasks NMIs.
//!
//! A handler that uses vector registers otherwise must not do so where the work has the save area
//! in use: `FPU_BUSY`, as `irq_fpu_usable` of Linux asks.

use core::sync::atomic::AtomicU64;

use super::Scenario;

lab_note!(
    "scenario fpu native uses=vector arg=SCENARIO_FPU "
    "summary=\"the work and the NMI body use a vector register; the body raises #UD meanwhile\""
);

scenario!(SCENARIO_FPU = Scenario { body, work, ..Scenario::PLAIN });

/// Where a task's register is while the kernel uses it.
#[unsafe(no_mangle)]
static FPU_AREA: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// It is there.
#[unsafe(no_mangle)]
static FPU_BUSY: AtomicU64 = AtomicU64::new(0);

unsafe extern "sysv64" {
    #[link_name = "fpu.body"]
    safe fn body();
    #[link_name = "fpu.work"]
    safe fn work() -> u64;
}

entry_asm! {r#"
    .text
# The body: keeps XMM0.
    .globl fpu.body
fpu.body:
    subq $16, %rsp
    movdqu %xmm0, (%rsp)
    movdqu fpu.nmi(%rip), %xmm0
    .globl fpu.instruction
fpu.instruction:
    ud2
    movdqu (%rsp), %xmm0
    addq $16, %rsp
    ret
    MEANT_UD2 1, fpu.instruction

    .section .text.work, "ax", @progbits
# fpu.work() -> rax: what was in the task's register at the end, and in the kernel's. Clobbers
# XMM0, rcx and RFLAGS.
    .globl fpu.work
    .type fpu.work, @function
fpu.work:
    subq $16, %rsp
    movdqu fpu.task(%rip), %xmm0
fpu.begin:
    movq $1, FPU_BUSY(%rip)
    movdqu %xmm0, FPU_AREA(%rip)
fpu.kernel_begins:
    movdqu fpu.kernel(%rip), %xmm0
    nop
    movdqu %xmm0, (%rsp)
fpu.end:
    movdqu FPU_AREA(%rip), %xmm0
    movq $0, FPU_BUSY(%rip)
fpu.task_goes_on:
    movq (%rsp), %rcx
    movdqu %xmm0, (%rsp)
    popq %rax
    addq %rcx, %rax
    popq %rcx
    addq %rcx, %rax
    ret
    .size fpu.work, . - fpu.work

    .section .rodata
    .balign 16
fpu.task:
    .quad 0x1111, 0x2222
fpu.kernel:
    .quad 0x3333, 0x4444
    .globl fpu.nmi
fpu.nmi:
    .quad 0x5555, 0x6666
"#}
