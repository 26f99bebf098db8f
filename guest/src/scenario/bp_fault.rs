//! `bp-fault`: every body executes int3, whose handler returns by a real iretq. A KVM
//! that does not emulate it is helped by the VMM, which injects the trap.

use super::{Scenario, work};

lab_note!("scenario bp-fault arg=SCENARIO_BP_FAULT summary=\"the NMI body executes int3\"");

scenario!(SCENARIO_BP_FAULT = Scenario { body, work: work::run, ..Scenario::PLAIN });

unsafe extern "sysv64" {
    #[link_name = "bp_fault.body"]
    safe fn body();
}

// A function without arguments and result.
entry_asm! {r"
    .text
    .globl bp_fault.body
bp_fault.body:
    .globl bp_fault.instruction
bp_fault.instruction:
    int3
    .globl bp_fault.after
bp_fault.after:
    ret
    MEANT_INT3 1, bp_fault.after
"}
