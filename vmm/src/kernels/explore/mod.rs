//! A search of every pattern of NMIs over a real kernel: from one interrupted place, every
//! number, timing and nesting of them, until nothing new appears.
//!
//! KVM executes every instruction. What lies between two boundaries at which something else than the
//! next instruction can happen is one edge ([`along`]). States are told apart by everything but
//! counters that nothing but their own increments looks at ([`counters`]), and what is dead of the
//! NMI stack ([`nmi_stack`]). Nested NMIs that are alike are searched once ([`episode`]), with the
//! model of the CPU to say what they look at. What it rests on else: the clock stands still, and no
//! other interrupt comes.

mod along;
mod bytes;
mod counters;
mod episode;
mod graph;
mod machine;
mod nmi_stack;
mod paths;
mod report;
mod rounds;
mod search;
mod state;
mod store;
mod traced;

use std::sync::atomic::AtomicBool;

use super::error::LabError;
use super::lab::Lab;
pub use report::{Config, Found, Progress, Report};

/// Searches from the lab's site, until `stop` is set.
pub fn explore(
    lab: &mut Lab,
    config: &Config,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, LabError> {
    lab.pc.set_clock_pace(0);
    let report = rounds::search(lab, config, stop, progress);
    lab.pc.set_clock_pace(super::pc::CLOCK_PACE);
    report
}
