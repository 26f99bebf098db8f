//! Decides from the outside whether a run survived.
//!
//! The oracle knows of a scheme only what its manifest declares: labels, repeat
//! frames, faults, idle words, scratch memory. Everything it remembers about a run
//! is ghost state and lives here, never in guest memory.
//!
//! `watch.rs` is told what happens and asks the rules, one file each in `rules/`. A rule that
//! is broken ends the run with a [`Verdict`]: the only shape a judgement has.

mod context;
mod expect;
mod frames;
mod ghost;
mod golden;
mod invariant;
mod judge;
mod rules;
mod stopped;
mod tables;
mod verdict;
mod watch;
mod watched;

pub use context::Context;
pub use expect::{Expectation, ExpectationError};
pub use frames::{Frames, Live};
pub use ghost::{Ghost, MOST_EXTERNAL};
pub use golden::{Golden, Visit};
pub use invariant::{Invariant, UnknownInvariant};
pub use judge::Oracle;
pub use rules::Rules;
pub use rules::memory::wrong_checksum;
pub use rules::progress::{goes_round, out_of_steps};
pub use verdict::{Verdict, VerdictKind, Word};
pub use watched::Watched;
