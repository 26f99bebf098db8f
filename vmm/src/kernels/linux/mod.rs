//! What is Linux's own: its symbols, its NMI path, its command line, and the user program
//! that runs on it.

mod entry;
mod hooks;
mod initrd;
mod kallsyms;
mod kernel;
mod options;
mod payload;
mod symbols;
pub mod user;
mod warning;

pub use entry::nmi_counter;
pub use hooks::complaint;
pub use initrd::{INIT, with_user};
pub use kernel::{GETPPID, Linux};
pub use options::Options;
pub use payload::vmlinux;
pub use symbols::symbols_of_image;
