//! `ud-fault`: every body raises #UD, whose handler skips the instruction and
//! returns by a real iretq.

use core::arch::global_asm;

use super::{Scenario, work};

lab_note!("scenario ud-fault arg=SCENARIO_UD_FAULT summary=\"the NMI body raises #UD\"");

#[unsafe(no_mangle)]
#[used]
#[unsafe(link_section = ".rodata.lab")]
static SCENARIO_UD_FAULT: Scenario = Scenario { body, work: work::run };

unsafe extern "sysv64" {
    #[link_name = "ud_fault.body"]
    pub(super) safe fn body();
}

// A function without arguments and result. The #UD handler knows its
// instruction by the label.
global_asm!(
    r#"
    .text
    .globl ud_fault.body
ud_fault.body:
    .globl ud_fault.instruction
ud_fault.instruction:
    ud2
ud_fault.after:
    ret
"#,
    options(att_syntax)
);
