//! A search of every pattern of NMIs over a real kernel: from one interrupted place, every
//! number, timing and nesting of them, until nothing new appears.
//!
//! It is made on KVM alone, instruction by instruction: the model of the CPU has no part in it,
//! and states that differ are merged only if they differ in counters that nothing but their own
//! increments looks at ([`counters`]), or in a frame that nothing reads any more ([`frame`]). What it rests on else: the clock stands still, and no other
//! interrupt comes.

mod counters;
mod frame;
mod paths;
mod report;
mod search;
mod state;
mod store;

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
    let report = search::search(lab, config, stop, progress);
    lab.pc.set_clock_pace(super::pc::CLOCK_PACE);
    report
}
