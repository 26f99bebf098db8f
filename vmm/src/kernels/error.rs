//! What can go wrong with a kernel in the lab.

use super::pc::Error;
use crate::image::PlaceError;
use crate::inject::ScheduleError;

/// What can go wrong in the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel or the host.
    #[error(transparent)]
    Machine(#[from] Error),
    /// The schedule.
    #[error("schedule: {0}")]
    Schedule(#[from] ScheduleError),
    /// A fault before any NMI.
    #[error(
        "schedule: {0:?} begins with a fault; it begins with the NMI whose handler is to fault, as in nmi@user fault@default_do_nmi"
    )]
    FaultFirst(String),
    /// A fault at the interrupted place.
    #[error("schedule: fault@{0}: a fault comes in an NMI's handler, not where the first NMI interrupts")]
    FaultAtSite(String),
    /// A fault in a kernel of which none is known that it resolves.
    #[error("schedule: no fault is known that this kernel's handler resolves, so that there is no event fault")]
    NoFault,
    /// The first NMI's site.
    #[error("site: {0}")]
    Site(PlaceError),
    /// A mutation.
    #[error("{0}")]
    Mutation(String),
    /// One NMI alone is not survived: nothing can be said about more.
    #[error("a single NMI at {0} does not pass: {1}")]
    Single(String, String),
    /// Another machine of the same kernel takes another path.
    #[error("its path has {now} boundaries, and had {then} before: this kernel is not the same each time")]
    Unlike {
        /// Boundaries of this machine's path.
        now: u64,
        /// Boundaries of the path when the sweeps were planned.
        then: u64,
    },
    /// A search does not come again to where it has been.
    #[error("a way that the search has found does not lead on at {0} when it is gone again, as every way must")]
    Way(String),
}

impl LabError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            LabError::Machine(e) => e.exit_code(),
            LabError::Schedule(_)
            | LabError::FaultFirst(_)
            | LabError::FaultAtSite(_)
            | LabError::NoFault
            | LabError::Site(_)
            | LabError::Mutation(_) => 65,
            LabError::Single(..) | LabError::Unlike { .. } => 1,
            LabError::Way(_) => 70,
        }
    }
}
