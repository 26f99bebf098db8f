//! What a host must do as the model does: forms of instructions, random machines around them,
//! and how two outcomes differ. Who runs the host is the caller's.

mod compare;
mod encode;
mod forms;
mod layout;
mod random;
mod scene;

pub use compare::{HostEnd, Outcome, Verdict, compare, run_model};
pub use forms::{Form, forms};
pub use layout::RAM;
pub use random::Random;
pub use scene::Scene;
