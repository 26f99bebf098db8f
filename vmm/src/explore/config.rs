//! What a search is asked, and what it answers.

use super::path::Reductions;
use super::states::Edge;
use crate::inject::coverage::Coverage;
use crate::inject::{RunError, Schedule};
use crate::machine::Unknown;
use crate::oracle::Verdict;

/// What to search, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Give up beyond so many states.
    pub max_states: usize,
    /// Give up beyond so many bytes for states and frontier.
    pub max_memory: usize,
    /// The process has nothing else to do, and `max_memory` is the most that all of it may take.
    pub alone: bool,
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
    /// Check: hold every stack word for dead, whatever reads it. Such a search is wrong, and the
    /// poison in those words must show it.
    pub blind: bool,
}

impl Config {
    /// Whether interruptions that are alike are looked at once. Not where the search is to
    /// find every violation or to draw every state, nor where a reduction that this one
    /// builds on is switched off.
    pub fn by_episodes(&self) -> bool {
        let r = self.reductions;
        let all = r.model && r.merge_dead && r.merge_episodes && r.skips_blocked();
        all && !self.keep_going && !self.graph && !self.check_hashes
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_states: 20_000_000,
            max_memory: 4 << 30,
            alone: false,
            jobs: 1,
            reductions: Reductions::default(),
            keep_going: false,
            check_hashes: false,
            cross_check: 20,
            graph: false,
            blind: false,
        }
    }
}

/// Where KVM came to another state than the model of the CPU: a deviation of this host, or an
/// error of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Where the edge began.
    pub at: u64,
    /// The edge.
    pub edge: Edge,
    /// What differs, in one line.
    pub what: String,
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

/// Nesting that was seen to grow: the same instruction is interrupted again and again, each time
/// with one more NMI live and further down its stack. Only the stack's size bounds that.
#[derive(Clone, Debug)]
pub struct Growth {
    /// The instruction.
    pub at: u64,
    /// Bytes of stack for each NMI.
    pub bytes: u64,
    /// How deep the schedule goes.
    pub nmis: u32,
    /// A schedule that shows it.
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
    /// Where a limit was hit: how NMIs nest ever deeper, where they were seen to.
    pub growth: Option<Growth>,
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
    /// Every instruction was looked at. Otherwise, where KVM alone carries the search, it ran
    /// blocked chains freely, and what holds at every boundary (I9, I15) was asked at their ends.
    pub stepped: bool,
    /// Chains of instructions that KVM executed, too, and where it differed.
    pub confirmed: u64,
    /// See [`Deviation`]. Where there is one, nothing is proved.
    pub deviations: Vec<Deviation>,
    /// What a search by episodes saw, and the whole search after it did not: no proof holds.
    pub seen: Option<Verdict>,
    /// Instructions that the model does not understand: each counts as reading everything.
    pub unknown: Vec<Unknown>,
    /// Where this host clears RFLAGS.AC at each delivery, which the model was made to predict: the
    /// lowest address of a handler that was entered so. What is proved is proved of such a CPU.
    pub cleared_ac: Option<u64>,
    /// The first instruction seen that reads time or randomness: no proof holds over it.
    pub reads_time: Option<u64>,
    /// Stack words that were held for dead, and that held a pattern in the last round so that
    /// reading one would change the outcome.
    pub poisoned: u64,
    /// Where one of them was read all the same.
    pub poison_at: Option<u64>,
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
    /// Those that were searched; each of the others is of the class of one of these.
    pub searched: u64,
    /// States within those that were searched.
    pub states: u64,
    /// Ways that one of them ends, executed from each context of its class.
    pub endings: u64,
}

impl Report {
    /// Whether the search is a proof: nothing new appeared, and nothing contradicts it.
    pub fn is_closed(&self) -> bool {
        self.bound.is_none() && self.contradiction().is_none()
    }

    /// Known deviations of this host that were met and predicted, by their probes.
    pub fn predicted(&self) -> Vec<String> {
        let cleared_ac = self.cleared_ac.map(|at| {
            format!(
                "delivery-ac: the handler at {at:#x} is entered with RFLAGS.AC clear, and the architecture keeps it"
            )
        });
        cleared_ac.into_iter().collect()
    }

    /// Why nothing is proved although nothing new appeared; `None` where nothing is against it.
    pub fn contradiction(&self) -> Option<Contradiction> {
        match () {
            () if !self.deviations.is_empty() => Some(Contradiction::Deviation),
            () if self.reads_time.is_some() => Some(Contradiction::Time),
            () if self.poison_at.is_some() => Some(Contradiction::Poison),
            () if self.seen.is_some() => Some(Contradiction::Seen),
            () if self.disagreements > 0 => Some(Contradiction::Gears),
            () if self.collisions.is_some_and(|n| n > 0) => Some(Contradiction::Collision),
            () if self.violations.iter().any(|f| matches!(f.verdict, Verdict::HostLimit { .. })) => {
                Some(Contradiction::Host)
            }
            () => None,
        }
    }
}

/// What stands against a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// KVM came to another state than the model.
    Deviation,
    /// An instruction reads time or randomness.
    Time,
    /// An instruction has used a stack word that was held for dead.
    Poison,
    /// A path came to another verdict when it was run again.
    Gears,
    /// A search by episodes saw a rule broken, and the whole search did not.
    Seen,
    /// Two different states had one hash.
    Collision,
    /// This KVM could not execute something, and what comes after it was not searched.
    Host,
}

impl Error {
    /// Whether the user wanted an end.
    pub fn is_interruption(&self) -> bool {
        let interrupted = |e: &crate::machine::Error| matches!(e, crate::machine::Error::Interrupted);
        match self {
            Error::Machine(e) | Error::Path(RunError::Machine(e)) => interrupted(e),
            Error::Path(_) => false,
        }
    }
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
