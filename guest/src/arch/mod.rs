//! What the CPU wants: descriptors, gates, and the handlers of its faults.

pub mod cpu;
pub mod espfix;
pub mod fault;
pub mod fred_user;
pub mod gdt;
pub mod gdt_switch;
pub mod idt;
pub mod percpu;
pub mod pv_user;
pub mod user;
