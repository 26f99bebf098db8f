//! `gdt-switch`: context switches between two address spaces that have the GDT mapped at
//! different places, with an NMI between the load of CR3 and that of GDTR. The body does
//! nothing: delivery itself is what matters.

use super::Scenario;
use crate::arch::gdt_switch;
use crate::mm::process;

lab_note!(
    "scenario gdt-switch arg=SCENARIO_GDT_SWITCH "
    "summary=\"context switches where each address space maps the GDT elsewhere; the NMI body does nothing\""
);

scenario!(SCENARIO_GDT_SWITCH = Scenario { body, work, ..Scenario::PLAIN });

extern "sysv64" fn body() {}

extern "sysv64" fn work() -> u64 {
    let child = process::fork();
    for number in [process::FIRST, child] {
        process::give(number, gdt_switch::place(number));
    }
    let (own, childs) = (gdt_switch::place(process::FIRST), gdt_switch::place(child));
    assert!(process::lacks(process::FIRST, childs) && process::lacks(child, own), "both roots have both places");
    gdt_switch::switch(process::FIRST);
    gdt_switch::switch(child);
    gdt_switch::switch(process::FIRST);
    gdt_switch::leave();
    child as u64
}
