//! Where a run stops next, or stopped last: breakpoints, watchpoints, and a goal of the user's.

use std::collections::BTreeSet;

use gdbstub::target::ext::breakpoints::WatchKind;

use super::access::Access;
use super::run::Run;

/// A watchpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Virtual address of its first byte.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
    /// What it watches for.
    pub kind: WatchKind,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Towards the verdict.
    Forwards,
    /// Towards *ready*.
    Backwards,
}

/// Why a run stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A breakpoint is there.
    Breakpoint,
    /// The move that was made, or undone, accesses watched memory.
    Watch(Watch),
    /// It was asked for.
    Goal,
    /// There is nothing further that way.
    End,
}

/// Where a run is to stop.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// Addresses.
    pub breakpoints: BTreeSet<u64>,
    /// Memory.
    pub watches: Vec<Watch>,
    /// A moment, until it was reached.
    pub goal: Option<usize>,
}

impl Stops {
    /// The moment to stop at, coming from the present one, and why. Going backwards, a watchpoint
    /// stops before the instruction that accesses it, as gdb expects.
    pub fn next(&self, run: &dyn Run, way: Way) -> (usize, Why) {
        let watched = self.watched(run, way);
        let placed = self.placed(run, way);
        let goal = self.goal.filter(|goal| match way {
            Way::Forwards => *goal > run.log().now,
            Way::Backwards => *goal < run.log().now,
        });
        let end = match way {
            Way::Forwards => run.log().end(),
            Way::Backwards => 0,
        };
        let all = [
            watched.map(|(at, watch)| (at, Why::Watch(watch))),
            placed.map(|at| (at, Why::Breakpoint)),
            goal.map(|at| (at, Why::Goal)),
            Some((end, Why::End)),
        ];
        let all = all.into_iter().flatten();
        // Of several at one moment the first of this list.
        let nearest = all.min_by_key(|(at, _)| run.log().now.abs_diff(*at));
        nearest.unwrap_or((end, Why::End))
    }

    fn placed(&self, run: &dyn Run, way: Way) -> Option<usize> {
        let is = |at: &usize| self.breakpoints.contains(&run.log().places[*at]);
        match way {
            Way::Forwards => (run.log().now + 1..=run.log().end()).find(is),
            Way::Backwards => (0..run.log().now).rev().find(is),
        }
    }

    fn watched(&self, run: &dyn Run, way: Way) -> Option<(usize, Watch)> {
        let places = self.watches.iter().map(|w| (*w, run.physical(w.addr, w.len)));
        let places: Vec<(Watch, Vec<(u64, u32)>)> = places.collect();
        let hit = |access: &Access| places.iter().find(|(w, at)| meets(*w, at, access)).map(|(w, _)| *w);
        let now = run.log().accesses.partition_point(|a| a.by < run.log().now);
        match way {
            Way::Forwards => run.log().accesses[now..].iter().find_map(|a| Some((a.by + 1, hit(a)?))),
            Way::Backwards => run.log().accesses[..now].iter().rev().find_map(|a| Some((a.by, hit(a)?))),
        }
    }
}

fn meets(watch: Watch, places: &[(u64, u32)], access: &Access) -> bool {
    let kind = match watch.kind {
        WatchKind::Write => access.writes,
        WatchKind::Read => access.reads,
        WatchKind::ReadWrite => access.reads || access.writes,
    };
    let overlaps =
        |(addr, len): &(u64, u32)| *addr < access.addr + u64::from(access.len) && access.addr < addr + u64::from(*len);
    kind && places.iter().any(overlaps)
}
