//! A guest in a machine: loading, booting, stepping, stopping at boundaries,
//! checkpoint and restore, PV hypercalls.

pub mod boot;
mod calls;
mod checkpoint;
mod closed;
mod deliver;
mod error;
pub mod hv_bug;
mod idt;
mod lab;
mod layout;
pub mod memory;
mod needs;
mod nmi_window;
pub mod paging;
mod patch;
mod predict;
mod predictor;
pub mod pv;
mod ready;
mod seen;
mod smi;
mod step;
mod stop;
mod tables;
mod timed;
mod traced;
mod transport;
mod trap_flag;
mod undefined;
mod user;
mod waits;

pub use checkpoint::Checkpoint;
pub use deliver::Raise;
pub use error::Error;
pub use idt::Idt;
pub use lab::{Knobs, Machine};
pub use predictor::{Accesses, Engine, Unknown};
pub use step::register;
pub use stop::Stop;
pub use transport::Transport;
