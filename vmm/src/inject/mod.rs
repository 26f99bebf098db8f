//! Where and when NMIs arrive: boundaries by name, schedules, and the gears that
//! carry them out.

mod case;
mod course;
pub mod coverage;
mod event;
mod gears;
mod golden;
mod moves;
mod passed;
mod places;
mod replay;
mod rounds;
mod schedule;
mod session;
pub mod stop;
mod sweep;

pub use case::{Again, CaseResult};
pub use course::Course;
pub use event::{Boundary, Kind, Kinds, UnknownEvent};
pub use gears::{Gear, RunError, Settled, UnknownGear, Visitor, judge, run, settle};
pub use moves::Advance;
pub use places::Places;
pub use replay::{Replay, ReplayError};
pub use rounds::Rounds;
pub use schedule::{At, Event, Schedule, ScheduleError};
pub use session::{Saved, Session};
pub use sweep::{Limits, Sweep};
