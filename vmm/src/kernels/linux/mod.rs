//! What is Linux's own: its symbols, its NMI path, its command line, the user program that
//! runs on it, and the help that some hosts need to run it.

mod assist;
mod hooks;
mod kallsyms;
mod live;
mod options;
mod symbols;
pub mod user;

pub(in crate::kernels) use assist::Native;
pub use assist::{Assists, HOST_WORDS};
pub(in crate::kernels) use hooks::Hooks;
pub use live::{Boundary, EntryPath};
pub use options::Options;
pub use symbols::{KERNEL_MAP, KernelSymbols};
