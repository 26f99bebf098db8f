//! What is Xen's own: its image and symbols, how it boots with a paravirtual guest of the lab's as
//! dom0, where it keeps what it has still to tell the guest, and the oracle that follows from that.

mod caps;
mod guest;
mod image;
mod kernel;
mod vcpu;

pub use guest::Body;
pub use image::{hypervisor, symbols};
pub use kernel::Xen;
