//! What is Xen's own: its image and symbols, how it boots with a paravirtual guest of the lab's as
//! dom0, where it keeps what it has still to tell the guest, and the oracle that follows from that.

mod caps;
mod dom0;
mod guest;
mod image;
mod kernel;
mod linux;
mod named;
mod vcpu;

pub use dom0::Dom0;
pub use guest::Body;
pub use image::{hypervisor, symbols};
pub use kernel::Xen;
pub use named::{Named, guest_symbols};
