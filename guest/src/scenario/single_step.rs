//! `single-step`: the interrupted code has TF set for a stretch, and takes a #DB after
//! each of its instructions. NMIs come before an instruction that is to be stepped, at the
//! #DB handler's first instruction (#DB is delivered before an NMI that arrived during the
//! instruction: SDM vol. 3, table 6-2), and inside the handler. The body takes a #DB, too.
//!
//! `step-fault`: the NMI body single-steps over a ud2, whose handler returns to code with
//! TF set. An iretq lets one instruction run before the next #DB; `popfq; ret` does not.
//!
//! Not in any stretch, since hosts differ in them: loads of SS, STI, swapgs, OUT.

use super::{Scenario, db_fault, short};
use crate::arch::rflags;

lab_note!(
    "scenario single-step traps=db@db_fault.stepped arg=SCENARIO_SINGLE_STEP "
    "summary=\"TF in the interrupted context, which single-steps itself; so does the NMI body\""
);
lab_note!(
    "scenario step-fault traps=db@step_fault.stepped arg=SCENARIO_STEP_FAULT "
    "summary=\"the NMI body single-steps over a ud2\""
);

scenario!(SCENARIO_SINGLE_STEP = Scenario { body: db_fault::body, work, ..Scenario::PLAIN });
scenario!(SCENARIO_STEP_FAULT = Scenario { body: step_fault, work: short::work, ..Scenario::PLAIN });

unsafe extern "sysv64" {
    #[link_name = "step_fault.body"]
    safe fn step_fault();
}

extern "sysv64" fn work() -> u64 {
    unsafe extern "sysv64" {
        #[link_name = "single_step.work"]
        fn single_step_work(seed: u64) -> u64;
    }
    // SAFETY: it keeps what the calling convention says and touches only its stack.
    let seen = unsafe { single_step_work(0x0123_4567_89ab_cdef) };
    assert!(seen & rflags::TF != 0, "TF was never set");
    seen
}

entry_asm! {r#"
    .section .text.work, "ax", @progbits

# single_step.work(rdi: seed) -> rax: RFLAGS as seen in the stretch, above them a sum.
# Keeps what the calling convention says, and RFLAGS.
    .globl single_step.work
    .type single_step.work, @function
single_step.work:
    pushq %rbx
    pushfq
    popq %rdx
    movq %rdx, %rax
    orq ${tf}, %rax
    pushq %rax
single_step.set:
    popfq
    # TF is set; the first #DB comes after this instruction.
single_step.under:
    leaq 5(%rdi,%rdi,2), %rbx
    .globl single_step.first
single_step.first:
    pushfq
    popq %rax
    movl $2, %ecx
single_step.loop:
    call single_step.leaf
single_step.returned:
    decl %ecx
    jnz single_step.loop
    jmp single_step.end
single_step.leaf:
    addq %rax, %rbx
    ret
single_step.end:
    pushq %rdx
single_step.clear:
    # TF was set when it began: one more #DB, after it.
    popfq
    .globl single_step.after
single_step.after:
    shlq $32, %rbx
    movl %eax, %eax
    addq %rbx, %rax
    popq %rbx
single_step.return:
    ret
    .size single_step.work, . - single_step.work
    MEANT_STEPS 1, single_step.first, single_step.after

# A function without arguments and result. The ud2 is skipped; the instruction after it
# is the one that is stepped.
    .text
    .globl step_fault.body
step_fault.body:
    pushfq
    orl ${tf}, (%rsp)
step_fault.set:
    popfq
    .globl step_fault.instruction
step_fault.instruction:
    ud2
step_fault.after:
    nop
    .globl step_fault.stepped
step_fault.stepped:
    ret
    MEANT_UD2 2, step_fault.instruction
    MEANT_STEPPED 3, step_fault.stepped
"#,
    tf = rflags::TF,
}
