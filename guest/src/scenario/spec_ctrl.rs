//! `spec-ctrl`: a model-specific register has one value in the kernel and another where the user's
//! is still, or again, in force, as IA32_SPEC_CTRL has with kernel IBRS: Linux writes it on the way
//! in and out, and an NMI comes in between, too, at CPL 0 with the user's value.
//!
//! Not every host gives a guest an IA32_SPEC_CTRL, and some take a write and keep nothing. So
//! another register stands for it, which no code here uses otherwise: IA32_SYSENTER_ESP.

use core::arch::global_asm;

use super::Scenario;
use crate::arch::cpu;

lab_note!(
    "scenario spec-ctrl native arg=SCENARIO_SPEC_CTRL "
    "summary=\"an MSR, as IA32_SPEC_CTRL, has the user's value for a while; the NMI body does nothing\""
);

scenario!(SCENARIO_SPEC_CTRL = Scenario { body, work, ..Scenario::PLAIN });

extern "sysv64" fn body() {}

extern "sysv64" fn work() -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "spec_ctrl.work"]
        fn spec_ctrl_work() -> u64;
    }
    // SAFETY: it keeps what the calling convention says.
    unsafe { spec_ctrl_work() }
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# spec_ctrl.work() -> rax: the user's value, as it was read. Clobbers rcx, rdx and RFLAGS.
    .globl spec_ctrl.work
    .type spec_ctrl.work, @function
spec_ctrl.work:
    movl ${msr}, %ecx
    movl ${users}, %eax
    xorl %edx, %edx
    wrmsr
# The user's value, at CPL 0.
spec_ctrl.gap:
    rdmsr
    pushq %rax
    movl ${kernels}, %eax
    xorl %edx, %edx
    wrmsr
spec_ctrl.kernel:
    popq %rax
    ret
    .size spec_ctrl.work, . - spec_ctrl.work
    .text
"#,
    msr = const cpu::SPEC_CTRL,
    users = const cpu::SPEC_CTRL_USER,
    kernels = const cpu::SPEC_CTRL_KERNEL,
    options(att_syntax)
);
