//! `db-fault`, `short-db-fault`: every body single-steps one instruction. Its #DB has no
//! stack of its own, as in a PV guest; Linux's has one, which is what
//! `bug-debug-undo` is about.
//!
//! By the trap flag only: debug registers are in no state of the lab.

use super::{Scenario, short, work};
use crate::arch::rflags;

lab_note!(
    "scenario db-fault traps=db@db_fault.stepped arg=SCENARIO_DB_FAULT "
    "summary=\"the NMI body single-steps an instruction (#DB)\""
);
lab_note!(
    "scenario short-db-fault traps=db@db_fault.stepped arg=SCENARIO_SHORT_DB_FAULT "
    "summary=\"db-fault over a few instructions of work\""
);

scenario!(SCENARIO_DB_FAULT = Scenario { body, work: work::run, ..Scenario::PLAIN });
scenario!(SCENARIO_SHORT_DB_FAULT = Scenario { body, work: short::work, ..Scenario::PLAIN });

unsafe extern "sysv64" {
    #[link_name = "db_fault.body"]
    pub(super) safe fn body();
}

// A function without arguments and result.
entry_asm! {r"
    .text
    .globl db_fault.body
db_fault.body:
    pushfq
    orl ${tf}, (%rsp)
db_fault.set:
    popfq
    # TF counts from the start of an instruction: not popfq is stepped, but this.
db_fault.instruction:
    nop
    .globl db_fault.stepped
db_fault.stepped:
    ret
    MEANT_STEPPED 2, db_fault.stepped
",
    tf = rflags::TF,
}
