//! A guest in a machine: loading, booting, stepping, stopping at boundaries,
//! checkpoint and restore, PV hypercalls.

pub mod boot;
mod calls;
mod check;
mod checkpoint;
pub mod code;
pub mod declare;
mod deliver;
mod elf;
pub mod fault;
mod guest_image;
mod host_needs;
mod idt;
pub mod image;
mod lab;
mod lines;
pub mod link;
pub mod linux;
pub mod manifest;
pub mod memory;
mod nmi_window;
pub mod paging;
pub mod pv;
mod ready;
pub(in crate::machine) mod step;
pub mod symbols;
mod timed;
mod transport;
mod trap_flag;
mod user;
pub mod vectors;

pub use checkpoint::Checkpoint;
pub use code::{Code, Decoded, Flow};
pub use deliver::Raise;
pub use guest_image::Guest;
pub use idt::Idt;
pub use image::Image;
pub use lab::{Error, Knobs, Machine, Stop};
pub use manifest::Mode;
pub use step::register;
pub use transport::Transport;
