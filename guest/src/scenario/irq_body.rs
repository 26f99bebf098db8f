//! `irq-body`: the NMI's body opens maskable interrupts for a few instructions, as code does that
//! was written for another context. An interrupt there (`irq@`) returns by an iretq, which unmasks
//! NMIs in the middle of the body. The work has them open for longer than one instruction, too.

use super::{Scenario, short};

lab_note!(
    "scenario irq-body native arg=SCENARIO_IRQ_BODY "
    "summary=\"the NMI body and the work open maskable interrupts; for irq@ in schedules\""
);

scenario!(SCENARIO_IRQ_BODY = Scenario { body, work, ..Scenario::PLAIN });

unsafe extern "sysv64" {
    #[link_name = "irq_body.body"]
    safe fn body();
}

extern "sysv64" fn work() -> u64 {
    body();
    short::work()
}

// A function without arguments and result.
entry_asm! {r"
    .text
    .globl irq_body.body
irq_body.body:
    sti
    nop
irq_body.open:
    nop
irq_body.close:
    cli
    ret
"}
