//! A schedule under way: how often its places were visited, and what has arrived.

use super::event::Kind;
use super::schedule::{Event, Schedule};

/// How far a run has come with its schedule. [`Course::stand`] is called at each boundary that the
/// run stands at, or at least at each of [`Course::to_come`].
#[derive(Clone, Debug)]
pub struct Course {
    schedule: Schedule,
    /// The places of the schedule, ascending, each once.
    places: Vec<u64>,
    /// How often execution stood at each of them.
    visits: Vec<u32>,
    arrived: Vec<bool>,
}

impl Course {
    /// Nothing has arrived yet.
    pub fn new(schedule: &Schedule) -> Self {
        let mut places: Vec<u64> = schedule.0.iter().map(|e| e.at.addr).collect();
        places.sort_unstable();
        places.dedup();
        let (visits, arrived) = (vec![0; places.len()], vec![false; schedule.0.len()]);
        Self { schedule: schedule.clone(), places, visits, arrived }
    }

    /// Execution stands at `rip`. Returns what arrives there now, in the schedule's order.
    pub fn stand(&mut self, rip: u64) -> Vec<Kind> {
        let Ok(i) = self.places.binary_search(&rip) else { return Vec::new() };
        self.visits[i] += 1;
        let n = self.visits[i];
        let mut now = Vec::new();
        for (event, arrived) in self.schedule.0.iter().zip(&mut self.arrived) {
            if (event.at.addr, event.at.n) == (rip, n) {
                *arrived = true;
                now.push(event.kind);
            }
        }
        now
    }

    /// The places where something has not arrived yet and can still come.
    pub fn to_come(&self) -> Vec<u64> {
        self.schedule.0.iter().filter(|e| self.visits_of(e.at.addr) < e.at.n).map(|e| e.at.addr).collect()
    }

    /// The first event that has not arrived, and how often execution stood at its place.
    pub fn missed(&self) -> Option<(Event, u32)> {
        let i = self.arrived.iter().position(|arrived| !arrived)?;
        let event = self.schedule.0[i];
        Some((event, self.visits_of(event.at.addr)))
    }

    /// How often execution stood at each place, and the number of the next visit to the i-th of
    /// them, after that many, at which something arrives.
    pub(super) fn laps(&mut self) -> (&mut [u32], impl Fn(usize, u32) -> Option<u32>) {
        let Self { schedule, places, visits, .. } = self;
        let next = |i: usize, count: u32| {
            let at_it = schedule.0.iter().map(|event| event.at).filter(|at| at.addr == places[i]);
            at_it.map(|at| at.n).filter(|n| *n > count).min()
        };
        (visits, next)
    }

    fn visits_of(&self, addr: u64) -> u32 {
        self.places.binary_search(&addr).map_or(0, |i| self.visits[i])
    }
}
