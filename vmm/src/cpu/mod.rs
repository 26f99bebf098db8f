//! The CPU as the architecture describes it. Nothing here knows KVM.

mod lazy;
mod state;

pub use lazy::{Classes, Debug, Lazy, LazyId, MSRS};
pub use state::{Events, Exception, Interrupt, Nmi, Regs, SHADOW_MOV_SS, SHADOW_STI, Segment, Sregs, Table, rflags};
