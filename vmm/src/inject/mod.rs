//! Where and when NMIs arrive: boundaries by name, schedules, and the gears that
//! carry them out.

pub mod coverage;
mod event;
mod gears;
mod hunt;
mod places;
mod replay;
mod schedule;
mod session;
mod sweep;

pub use event::{Boundary, Kind, Kinds, UnknownEvent};
pub use gears::{Gear, RunError, UnknownGear, Visitor, run};
pub use places::Places;
pub use replay::{Replay, ReplayError};
pub use schedule::{At, Event, Schedule, ScheduleError};
pub use session::{Advance, Saved, Session};
pub use sweep::{CaseResult, Limits, Sweep};
