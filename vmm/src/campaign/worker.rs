//! Runs units of work on several threads, each with machines of its own.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::closure;
use super::error::Error;
use super::plan::{Cell, Plan, Work, open};
use super::tally::{Rank, Tally, words};
use crate::folder::{Ended, Queue};
use crate::inject::coverage::{Coverage, Watch};
use crate::inject::{Again, CaseResult, Gear, Limits, Places, RunError, Session, Sweep, run};
use crate::kvm::Host;
use crate::oracle::Verdict;

/// What a thread of a campaign works with.
pub struct Pool<'a> {
    /// The campaign.
    pub plan: &'a Plan,
    /// Where its machines run.
    pub host: &'a Host,
}

impl Pool<'_> {
    /// One thread: takes units until there are no more. Those of one cell come in
    /// ascending order, and share a session.
    pub fn work(&self, queue: &Queue<'_, Tally, Error>) -> Result<(), Error> {
        let mut unit = queue.take();
        while let Some(first) = unit {
            unit = match self.cell(first, queue) {
                // While a machine boots: what was found stands, as where a unit is interrupted.
                Err(Error::Machine { why: crate::machine::Error::Interrupted, .. }) => None,
                other => other?,
            };
        }
        Ok(())
    }

    /// Runs units of the cell that `first` belongs to; returns the first of another.
    fn cell(&self, first: u64, queue: &Queue<'_, Tally, Error>) -> Result<Option<u64>, Error> {
        let cell = &self.plan.cells[self.plan.cell_of(first)];
        let knobs = self.plan.campaign.knobs;
        if let Work::Closure(bounds) = &cell.work {
            let begin = Instant::now();
            let (tally, whole) = closure::search(self.plan, cell, bounds, self.host, queue.stop())?;
            queue.ended(Ended { unit: first, result: tally, took: begin.elapsed(), whole });
            return Ok(queue.take());
        }
        if let Work::HostLimit(why) = &cell.work {
            let mut tally = Tally::default();
            let rank = Rank { events: 0, unit: first, index: 0 };
            tally.add(&Verdict::HostLimit { why: why.clone() }, rank, String::new);
            queue.ended(Ended { unit: first, result: tally, took: Duration::ZERO, whole: true });
            return Ok(queue.take());
        }
        let mut session = open(&cell.target, &self.plan.guest, self.host, knobs)?;
        if !matches!(cell.work, Work::Schedules(_)) && Sweep::units(&session) as u64 != cell.units {
            let why = "its run without NMIs is not the same at each boot".to_owned();
            return Err(self.failed(cell, crate::machine::Error::Host(why).into()));
        }
        let mut runner = Runner::new(cell, &mut session, self.plan.campaign.recheck);
        let mut unit = Some(first);
        while let Some(number) = unit.filter(|u| *u < cell.first_unit + cell.units) {
            let begin = Instant::now();
            let mut tally = Tally::default();
            let whole = match runner.unit(number, &mut tally, queue.stop()) {
                Err(RunError::Machine(crate::machine::Error::Interrupted)) => false,
                end => end.map_err(|e| self.failed(cell, e))?.is_continue(),
            };
            queue.ended(Ended { unit: number, result: tally, took: begin.elapsed(), whole });
            unit = queue.take();
        }
        Ok(unit)
    }

    fn failed(&self, cell: &Cell, e: RunError) -> Error {
        let (scheme, scenario) = (cell.target.scheme.name.clone(), cell.target.scenario.name.clone());
        match e {
            RunError::Machine(why) => Error::Machine { scheme, scenario, why },
            other => {
                Error::Schedule { path: self.plan.campaign.path.clone(), scheme, scenario, why: other.to_string() }
            }
        }
    }
}

/// Of a list of schedules, the first so many are also stepped, for what they stand at.
const STEPPED: u64 = 64;

/// Runs the units of one cell on one session.
enum Runner<'a> {
    Sweep { cell: &'a Cell, sweep: Box<Sweep<'a>> },
    Schedules { cell: &'a Cell, session: &'a mut Session, recheck: u64 },
}

impl<'a> Runner<'a> {
    fn new(cell: &'a Cell, session: &'a mut Session, recheck: u64) -> Self {
        let limits = match &cell.work {
            Work::Schedules(_) => return Runner::Schedules { cell, session, recheck },
            Work::Sweep { depth, first, every, later } => {
                let visits = session.rules().golden.visits.iter().enumerate();
                let first = visits.map(|(i, visit)| first.has(visit.addr) && i.is_multiple_of(*every)).collect();
                Limits { depth: *depth, recheck, later: Arc::clone(later), first }
            }
            Work::Random(drawn) => {
                let first = drawn.iter().map(|cases| !cases.is_empty()).collect();
                Limits { depth: 1, recheck, later: Arc::new(Places::All), first }
            }
            Work::Closure(_) | Work::HostLimit(_) => {
                Limits { depth: 1, recheck, later: Arc::new(Places::All), first: vec![] }
            }
        };
        Runner::Sweep { cell, sweep: Box::new(Sweep::new(session, limits)) }
    }

    /// Runs one unit; `Break` where it was stopped before its end.
    fn unit(&mut self, unit: u64, tally: &mut Tally, stop: &AtomicBool) -> Result<ControlFlow<()>, RunError> {
        match self {
            Runner::Schedules { cell, session, recheck } => {
                let number = unit - cell.first_unit;
                let Work::Schedules(list) = &cell.work else { return Ok(ControlFlow::Continue(())) };
                let schedule = &list[number as usize];
                let mut coverage = Coverage::default();
                session.forget_read_time();
                let mut verdict = run(session, schedule, Gear::Jump, &mut Watch::new(&mut coverage))?;
                if number < STEPPED {
                    let stepped = run(session, schedule, Gear::Step, &mut Watch::new(&mut coverage))?;
                    tally.stepped = u64::from(verdict.is_pass() && stepped.is_pass());
                    verdict = verdict.judged_again(stepped);
                }
                tally.coverage = coverage;
                tally.reads_time = session.reads_time().map(|at| session.rules().names().show(at));
                tally.smi_played = session.take_smi_played();
                let rank = Rank { events: schedule.0.len(), unit, index: 0 };
                tally.add(&verdict, rank, || schedule.show(session.rules().names()));
                let mut counts_as = verdict.kind();
                if *recheck > 0 && number.is_multiple_of(*recheck) {
                    let again = Again::of(run(session, schedule, Gear::Arm, &mut ()))?;
                    counts_as = tally.recheck(&verdict, &again, rank, || schedule.show(session.rules().names()));
                }
                tally.ended.note(counts_as, &schedule.0);
                Ok(ControlFlow::Continue(()))
            }
            Runner::Sweep { cell, sweep } => {
                let boundary = (unit - cell.first_unit) as usize;
                let rules = sweep.rules();
                let mut on_case = |case: &CaseResult| {
                    let show = || words(case.events, rules.names());
                    let rank = Rank { events: case.events.len(), unit, index: case.index };
                    tally.add(case.verdict, rank, show);
                    tally.stepped += u64::from(case.stepped);
                    let counts_as = match case.again {
                        Some(again) => tally.recheck(case.verdict, again, rank, show),
                        None => case.verdict.kind(),
                    };
                    tally.ended.note(counts_as, case.events);
                    if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                let out = match &cell.work {
                    _ if !sweep.has(boundary) => sweep.pass(boundary).map(ControlFlow::Continue),
                    Work::Random(drawn) => sweep.unit_with_gaps(boundary, &drawn[boundary], &mut on_case),
                    _ => sweep.unit(boundary, &mut on_case),
                };
                tally.coverage = sweep.take_coverage();
                tally.reads_time = sweep.reads_time().map(|at| rules.names().show(at));
                tally.smi_played = sweep.take_smi_played();
                out
            }
        }
    }
}
