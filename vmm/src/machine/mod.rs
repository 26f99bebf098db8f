//! A guest in a machine: loading, booting, stepping, stopping at boundaries,
//! checkpoint and restore, PV hypercalls.

pub mod boot;
mod calls;
mod checkpoint;
mod closed;
mod deliver;
pub mod hv_bug;
mod idt;
mod lab;
pub mod memory;
mod needs;
mod nmi_window;
pub mod paging;
mod predict;
pub mod pv;
mod ready;
mod seen;
pub(in crate::machine) mod step;
mod timed;
mod traced;
mod transport;
mod trap_flag;
mod undefined;
mod user;

pub use checkpoint::Checkpoint;
pub use deliver::Raise;
pub use idt::Idt;
pub use lab::{Error, Knobs, Machine, Stop};
pub use predict::{Accesses, Engine, Unknown};
pub use step::register;
pub use transport::Transport;
