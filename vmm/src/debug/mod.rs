//! One run in gdb, forwards and backwards.
//!
//! A run of a schedule is the same each time, so it is recorded once from *ready* to its verdict:
//! where it stood after each move, what each move read and wrote, and a checkpoint now and then. To
//! go anywhere, the debugger restores the checkpoint before it and executes the rest on KVM again.
//! Where a breakpoint or a watchpoint is met next, or was met last, the record says.

mod access;
mod error;
mod event;
mod file;
mod kernel;
mod monitor;
mod recording;
mod run;
mod search;
mod server;
mod symbols;
mod target;

pub use access::Access;
pub use error::Error;
pub use event::What;
pub use kernel::KernelRun;
pub use recording::Recording;
pub use run::Run;
pub use server::{Address, Listener};
