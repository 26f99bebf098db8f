//! Where and when NMIs arrive: boundaries by name, schedules, and the gears that
//! carry them out.

mod arm;
pub mod coverage;
mod hunt;
mod places;
mod replay;
mod schedule;
mod session;
mod sweep;

pub use arm::{Gear, RunError, Visitor, run};
pub use places::Places;
pub use replay::{Replay, ReplayError};
pub use schedule::{At, Event, Kind, Schedule, ScheduleError};
pub use session::{Advance, Saved, Session};
pub use sweep::{CaseResult, Limits, Sweep};
