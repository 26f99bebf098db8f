//! A PC of the barest kind, on which an unmodified kernel runs with one user program of
//! the lab's.
//!
//! One vCPU, RAM from 0 up, a serial line, a timer and interrupt controllers, all in
//! the VMM. Snapshots are copies: RAM by KVM's log of dirty pages, the rest by value.

mod boot;
mod come_up;
mod console;
mod devices;
mod error;
pub mod initrd;
mod machine;
mod payload;
mod pic;
mod pit;
mod snapshot;
mod step;
mod time;

pub use come_up::Progress;
pub use error::Error;
pub use machine::{Pc, Stop};
pub use payload::vmlinux;
pub use snapshot::Snapshot;
