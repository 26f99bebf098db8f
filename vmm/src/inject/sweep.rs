//! Every boundary of every path: points, pairs, and deeper.
//!
//! The golden path is stepped; at each of its boundaries an NMI arrives, and the
//! path that follows is stepped in the same way, down to the wanted depth. At the
//! last level the case starts *at* its boundary, from the state that stands there,
//! and runs freely to its end: the jump gear.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::arm::{Gear, RunError, run};
use super::schedule::{At, Event, Kind, Schedule};
use super::session::{Advance, Saved, Session};
use crate::machine::{Code, Error, Raise};
use crate::oracle::Verdict;

/// A case that was run.
pub struct CaseResult<'a> {
    /// Its events.
    pub events: &'a [Event],
    /// What it was judged to be.
    pub verdict: &'a Verdict,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepStats {
    /// Cases run.
    pub cases: u64,
    /// Cases run again in the arm gear.
    pub rechecked: u64,
    /// Of these, how many came to another verdict.
    pub disagreed: u64,
}

/// How often each boundary was visited on the path under way.
struct Counts {
    base: u64,
    counts: Vec<u32>,
    path: Vec<u64>,
}

impl Counts {
    fn of(code: &Code) -> Self {
        let first = code.iter().next().map_or(0, |d| d.insn.ip());
        let last = code.iter().last().map_or(0, |d| d.insn.ip());
        Self { base: first, counts: vec![0; (last - first + 1) as usize], path: Vec::new() }
    }

    fn visit(&mut self, addr: u64) -> u32 {
        self.path.push(addr);
        // Execution outside the image's code is a violation soon; its count is moot.
        let slot = usize::try_from(addr.wrapping_sub(self.base)).ok();
        let Some(slot) = slot.and_then(|s| self.counts.get_mut(s)) else { return 1 };
        *slot += 1;
        *slot
    }

    fn rewind(&mut self, len: usize) {
        while self.path.len() > len {
            let Some(addr) = self.path.pop() else { break };
            let slot = usize::try_from(addr.wrapping_sub(self.base)).ok();
            if let Some(count) = slot.and_then(|s| self.counts.get_mut(s)) {
                *count -= 1;
            }
        }
    }
}

/// A sweep over one session.
pub struct Sweep<'a> {
    session: &'a mut Session,
    depth: usize,
    /// Every so many cases, one is run again in the arm gear.
    recheck: u64,
    counts: Counts,
    events: Vec<Event>,
    saved: Vec<Saved>,
    passed: Passed,
    /// Golden boundaries passed so far.
    unit: usize,
    stats: SweepStats,
}

/// Called with each case; `Break` ends the sweep.
pub type OnCase<'c> = dyn FnMut(&CaseResult) -> ControlFlow<()> + 'c;

impl<'a> Sweep<'a> {
    /// Up to `depth` NMIs in a case; every `recheck`-th case is run again in the arm
    /// gear (0: none).
    pub fn new(session: &'a mut Session, depth: usize, recheck: u64) -> Self {
        session.reset();
        let counts = Counts::of(&session.machine().guest().code);
        let saved = (0..depth).map(|_| session.saved()).collect();
        Self {
            session,
            depth,
            recheck,
            counts,
            events: vec![],
            saved,
            passed: Passed::default(),
            unit: 0,
            stats: SweepStats::default(),
        }
    }

    /// How many units of work there are: one for each boundary of the golden run.
    pub fn units(session: &Session) -> usize {
        session.rules().golden.visits.len()
    }

    /// What was done so far.
    pub fn stats(&self) -> SweepStats {
        self.stats
    }

    /// Runs every case whose first NMI arrives at the golden run's boundary number
    /// `unit`. Units must be asked for in ascending order.
    pub fn unit(&mut self, unit: usize, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        while self.unit < unit {
            self.counts.visit(self.session.machine().rip());
            self.session.advance(Advance::Step)?;
            self.unit += 1;
        }
        let mark = self.counts.path.len();
        let at = self.stand();
        let out = self.fork(at, 0, on_case);
        self.counts.rewind(mark);
        out
    }

    /// The boundary that the session stands at, counted.
    fn stand(&mut self) -> At {
        let addr = self.session.machine().rip();
        At { addr, n: self.counts.visit(addr) }
    }

    /// An NMI arrives at this boundary, and what follows is swept. The session comes
    /// back to where it was.
    fn fork(&mut self, at: At, level: usize, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        self.session.save(&mut self.saved[level]);
        let mark = self.counts.path.len();
        self.events.push(Event { kind: Kind::Nmi, at });
        self.session.arrive();
        let out = if level + 1 == self.depth {
            finish(self.session, &mut self.passed)
                .map_err(RunError::from)
                .and_then(|verdict| self.case(&verdict, on_case))
        } else {
            self.walk(level + 1, on_case)
        };
        self.events.pop();
        self.counts.rewind(mark);
        self.session.restore(&self.saved[level]);
        out
    }

    /// Steps the path to its end, and forks at each boundary.
    fn walk(&mut self, level: usize, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        loop {
            if self.session.deliverable() {
                self.session.deliver(Raise::Events)?;
            } else {
                self.session.advance(Advance::Step)?;
            }
            if let Some(verdict) = self.session.take_verdict() {
                return self.case(&verdict, on_case);
            }
            let at = self.stand();
            if self.fork(at, level, on_case)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn case(&mut self, verdict: &Verdict, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        self.stats.cases += 1;
        if self.recheck > 0 && self.stats.cases.is_multiple_of(self.recheck) {
            self.stats.rechecked += 1;
            let again = run(self.session, &Schedule(self.events.clone()), Gear::Arm, &mut ())?;
            if again != *verdict {
                self.stats.disagreed += 1;
                let schedule = Schedule(self.events.clone()).show(self.session.rules().names());
                log::error!("gears disagree on {schedule}: jump says {verdict}, arm says {again}");
            }
        }
        Ok(on_case(&CaseResult { events: &self.events, verdict }))
    }
}

/// States from which a run with nothing left to arrive is known to pass: it was run
/// from an equal state before. Most cases differ only until their NMI is over.
#[derive(Default)]
pub struct Passed {
    states: HashSet<u128>,
    /// Those that the run under way came through.
    trail: Vec<u128>,
}

/// Runs freely to the verdict, or to a state that is known to pass.
pub fn finish(session: &mut Session, passed: &mut Passed) -> Result<Verdict, Error> {
    passed.trail.clear();
    loop {
        let live = session.oracle().ghost.outer.is_some();
        if session.deliverable() {
            session.deliver(Raise::Events)?;
        } else {
            let shadowed = session.machine().pending() && session.machine().in_shadow();
            session.advance(if shadowed { Advance::Step } else { Advance::To(&[]) })?;
        }
        let verdict = match session.take_verdict() {
            Some(verdict) => verdict,
            None if live && session.oracle().ghost.outer.is_none() => {
                let state = session.state_hash();
                if !passed.states.contains(&state) {
                    passed.trail.push(state);
                    continue;
                }
                Verdict::Pass
            }
            None => continue,
        };
        if verdict.is_pass() {
            passed.states.extend(passed.trail.drain(..));
        }
        return Ok(verdict);
    }
}
