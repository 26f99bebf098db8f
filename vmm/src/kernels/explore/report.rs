//! What a search is asked, and what it says.

use crate::inject::{At, Event};
use crate::oracle::Verdict;

/// What is searched, and how far.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where the handler may fault each time that it comes there; `auto` for the first boundary
    /// where it may at all; none for no fault.
    pub fault: Option<String>,
    /// Whether something else may unblock NMIs, wherever a kernel can survive that.
    pub unmask: bool,
    /// Check: arrivals at boundaries where NMIs are blocked, too.
    pub all_arrivals: bool,
    /// Check: the words of a frame that nothing reads any more tell states apart, too.
    pub dead_words: bool,
    /// Check: every boundary is a state.
    pub stepped: bool,
    /// Check: every episode is searched.
    pub every_episode: bool,
    /// Give up beyond so many states.
    pub max_states: usize,
    /// How many of the paths found are run again as cases.
    pub cross_check: usize,
}

/// How a search goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Distinct states so far.
    pub states: usize,
    /// States that are still to be gone on from.
    pub frontier: usize,
}

/// A violation, and a shortest way to it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rule that is broken first, as the case says that runs the schedule.
    pub verdict: Verdict,
    /// A shortest schedule.
    pub schedule: Vec<Event>,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Distinct states.
    pub states: usize,
    /// Edges followed.
    pub edges: u64,
    /// Edges to known states.
    pub merged: u64,
    /// States found and not gone on from.
    pub frontier: usize,
    /// Most NMIs on a shortest path to a state.
    pub arrivals: u32,
    /// States in which the interrupted code goes on, each of which was judged.
    pub returns: usize,
    /// Instructions that execution stood at with NMIs unblocked.
    pub boundaries: usize,
    /// Where the handler faulted.
    pub fault: Option<At>,
    /// Boundaries where nothing unblocked NMIs, since no kernel survives that there.
    pub left_out: Option<usize>,
    /// Words left out of comparison, since they count and nothing looks at them.
    pub counters: Vec<u64>,
    /// Contexts in a handler that NMIs interrupt, and how many of them were searched, where the search
    /// is by episodes.
    pub episodes: Option<(u64, u64)>,
    /// The first violation.
    pub violation: Option<Found>,
    /// Why nothing is proved, where that is so.
    pub open: Option<String>,
    /// Paths that were run again as cases.
    pub cross_checked: usize,
}

impl Report {
    /// Whether nothing new appeared, and nothing speaks against what was found.
    pub fn is_closed(&self) -> bool {
        self.open.is_none() && self.violation.is_none()
    }
}
