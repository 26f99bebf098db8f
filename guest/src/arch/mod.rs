//! What the CPU asks of a kernel: descriptors, gates, stacks, the handlers of its faults, and
//! the ways to user mode and back.

pub mod cpu;
pub mod descriptor;
mod enter;
pub mod espfix;
pub mod external;
pub mod fault;
pub mod fred_user;
pub mod gdt;
pub mod gdt_switch;
pub mod idt;
pub mod kpti;
pub mod percpu;
pub mod pv_user;
pub mod rflags;
pub mod stacks;
pub mod user;
pub mod vector;
