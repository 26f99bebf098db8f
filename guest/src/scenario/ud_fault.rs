//! `ud-fault`: every body raises #UD, whose handler skips the instruction and
//! returns by a real iretq.

use super::{Scenario, work};

lab_note!("scenario ud-fault arg=SCENARIO_UD_FAULT summary=\"the NMI body raises #UD\"");

scenario!(SCENARIO_UD_FAULT = Scenario { body, work: work::run, ..Scenario::PLAIN });

unsafe extern "sysv64" {
    #[link_name = "ud_fault.body"]
    pub(super) safe fn body();
}

// A function without arguments and result.
entry_asm! {r"
    .text
    .globl ud_fault.body
ud_fault.body:
    .globl ud_fault.instruction
ud_fault.instruction:
    ud2
ud_fault.after:
    ret
    MEANT_UD2 1, ud_fault.instruction
"}
