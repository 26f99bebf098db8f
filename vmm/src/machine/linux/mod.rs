//! The second machine: a PC of the barest kind, on which an unmodified Linux kernel
//! runs with one user program of the lab's.
//!
//! One vCPU, RAM from 0 up, a serial line, a timer and interrupt controllers, all in
//! the VMM. Snapshots are copies: RAM by KVM's log of dirty pages, the rest by value.

mod assist;
mod boot;
mod come_up;
mod console;
mod devices;
mod error;
mod hooks;
pub mod initrd;
mod kallsyms;
mod live;
mod options;
mod payload;
mod pc;
mod pic;
mod pit;
mod snapshot;
mod step;
mod symbols;
mod time;
pub mod user;

pub use assist::{Assists, HOST_WORDS};
pub use come_up::Progress;
pub use error::Error;
pub use live::{Boundary, EntryPath};
pub use options::Options;
pub use payload::vmlinux;
pub use pc::{Pc, Stop};
pub use snapshot::Snapshot;
pub use symbols::{KERNEL_MAP, KernelSymbols};
