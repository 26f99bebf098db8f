//! `bp-fault`: every body executes int3, whose handler returns by a real iretq. A KVM
//! that does not emulate it is helped by the VMM, which injects the trap.

use core::arch::global_asm;

use super::{Scenario, work};

lab_note!("scenario bp-fault arg=SCENARIO_BP_FAULT summary=\"the NMI body executes int3\"");

#[unsafe(no_mangle)]
#[used]
#[unsafe(link_section = ".rodata.lab")]
static SCENARIO_BP_FAULT: Scenario = Scenario { body, work: work::run };

unsafe extern "sysv64" {
    #[link_name = "bp_fault.body"]
    safe fn body();
}

// A function without arguments and result. The #BP handler knows it by the label
// behind the instruction.
global_asm!(
    r#"
    .text
    .globl bp_fault.body
bp_fault.body:
    .globl bp_fault.instruction
bp_fault.instruction:
    int3
    .globl bp_fault.after
bp_fault.after:
    ret
"#,
    options(att_syntax)
);
