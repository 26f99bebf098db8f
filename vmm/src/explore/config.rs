//! What a search is asked, and what it answers.

use super::path::Reductions;
use crate::inject::coverage::Coverage;
use crate::inject::{RunError, Schedule};
use crate::oracle::Verdict;

/// What to search, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Give up beyond so many states.
    pub max_states: usize,
    /// Give up beyond so many bytes for states and frontier.
    pub max_memory: usize,
    /// Threads, each with a VM of its own.
    pub jobs: usize,
    /// How states follow one another.
    pub reductions: Reductions,
    /// Go on after the first violation.
    pub keep_going: bool,
    /// Keep every state whole, and count states with equal hashes that differ.
    pub check_hashes: bool,
    /// How many explored paths are run again in every gear.
    pub cross_check: usize,
    /// Keep what a drawing of the graph needs.
    pub graph: bool,
}

impl Config {
    /// Whether interruptions that are alike are looked at once. Not where the search is to
    /// find every violation or to draw every state, nor where a reduction that this one
    /// builds on is switched off.
    pub fn by_episodes(&self) -> bool {
        let m = self.reductions;
        m.merge_episodes && m.skips_blocked() && m.merge_dead && !self.keep_going && !self.graph && !self.check_hashes
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_states: 20_000_000,
            max_memory: 4 << 30,
            jobs: 1,
            reductions: Reductions::default(),
            keep_going: false,
            check_hashes: false,
            cross_check: 20,
            graph: false,
        }
    }
}

/// Why a search ended before nothing new appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `max_states`.
    States,
    /// `max_memory`.
    Memory,
    /// A violation was found, and the search was not to go on.
    Violation,
    /// It was interrupted.
    Interrupted,
}

/// A violation, by a shortest schedule.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is broken.
    pub verdict: Verdict,
    /// How.
    pub schedule: Schedule,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Why it is not closed; `None`: nothing new appeared, everything is covered.
    pub bound: Option<Bound>,
    /// Distinct states.
    pub states: u64,
    /// Edges followed.
    pub edges: u64,
    /// Edges that led to a known state.
    pub merged: u64,
    /// States found but not expanded.
    pub frontier: u64,
    /// Most NMIs that were live at once, one inside the other.
    pub max_nesting: u32,
    /// Instructions that execution stood at with NMIs unblocked.
    pub boundaries: u64,
    /// Of these, how many had an NMI injected.
    pub covered: u64,
    /// Boundaries by the kind of context (I20). A kind that is not here was, in a closed
    /// search, shown to be unreachable.
    pub coverage: Coverage,
    /// The largest use of each declared stack over all states, in bytes.
    pub stacks: Vec<(String, u64)>,
    /// Violations by kind, each with a shortest schedule.
    pub violations: Vec<Found>,
    /// Explored paths that were run again, once in each gear.
    pub cross_checked: u64,
    /// Of these, how many came to another verdict.
    pub disagreements: u64,
    /// Equal hashes of different states (`check_hashes`).
    pub collisions: Option<u64>,
    /// How often the search was made until no more words were found to be live.
    pub rounds: u32,
    /// Interruptions of contexts with no NMI live, where like ones were looked at once.
    pub episodes: Option<Episodes>,
    /// Bytes of memory for visited states, the frontier apart.
    pub visited_bytes: u64,
    /// The graph as DOT (`graph`).
    pub dot: Option<String>,
}

/// Interruptions of a context with no NMI live, from the delivery to the return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Episodes {
    /// All of them.
    pub all: u64,
    /// Those that were searched; the others are like one of these.
    pub searched: u64,
    /// Ways that one of them ends, run from each context that is like it.
    pub endings: u64,
}

/// Why a search could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] crate::machine::Error),
    /// A path could not be run again.
    #[error("a path that was explored cannot be run again: {0}")]
    Path(#[from] RunError),
}
