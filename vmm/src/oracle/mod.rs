//! Decides from the outside whether a run survived.
//!
//! The oracle knows of a scheme only what its manifest declares: labels, repeat
//! frames, faults, idle words, scratch memory. Everything it remembers about a run
//! is ghost state and lives here, never in guest memory.

mod atomic;
mod body;
mod context;
mod frames;
mod ghost;
mod golden;
mod privilege;
mod resume;
mod rules;
mod verdict;
mod watch;
mod watched;

pub use context::Context;
pub use frames::{Frames, Live};
pub use ghost::Ghost;
pub use golden::{Golden, Trap, Visit};
pub use rules::Rules;
pub use verdict::{Invariant, Verdict};
pub use watch::Oracle;
pub use watched::Watched;
