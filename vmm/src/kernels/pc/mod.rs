//! A PC of the barest kind, on which an unmodified kernel runs with one user program of
//! the lab's.
//!
//! One vCPU, RAM from 0 up, a serial line, a timer and interrupt controllers, all in
//! the VMM. Snapshots are copies: RAM by KVM's log of dirty pages, the rest by value.

pub mod apic;
mod assist;
mod assists;
mod board;
mod boot;
mod by_model;
mod clock;
mod come_up;
mod console;
mod cpu_time;
mod devices;
mod error;
mod fault;
mod gs;
mod hooked;
mod hooks;
mod interrupts;
mod layout;
mod machine;
mod memory;
mod multiboot;
mod patch;
mod pic;
mod pit;
mod predict;
mod program;
mod saved;
mod segment_limit;
mod serial;
mod snapshot;
mod step;
mod stop;
mod symbols;
mod time;
mod user_stop;

pub use assists::Assists;
pub use board::Board;
pub use come_up::Progress;
pub use cpu_time::Limit;
pub use error::Error;
pub use fault::PageFault;
pub use hooks::{Hooks, Skip};
pub use machine::{CLOCK_PACE, Pc};
pub use multiboot::{Module, load as load_multiboot};
pub use predict::{Answer, Next};
pub use program::Program;
pub use saved::{About, FORMAT, Header, Saved};
pub use snapshot::{Change, Snapshot};
pub use stop::Stop;
pub use symbols::{KERNEL_MAP, KernelSymbols};
