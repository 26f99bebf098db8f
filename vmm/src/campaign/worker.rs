//! Runs units of work on several threads, each with machines of its own.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::closure;
use super::error::Error;
use super::plan::{Cell, Plan, Work, open};
use super::tally::{Rank, Tally, words};
use crate::inject::coverage::{Coverage, Watch};
use crate::inject::{Again, CaseResult, Gear, Limits, Places, RunError, Session, Sweep, run};
use crate::kvm::Host;
use crate::oracle::Verdict;

/// What came of one unit.
pub struct UnitResult {
    /// Its number.
    pub unit: u64,
    /// What came of its cases.
    pub tally: Tally,
    /// How long it took.
    pub took: Duration,
    /// Whether all of its cases were run.
    pub whole: bool,
}

/// Runs `pending` units, ascending, on `jobs` threads, until they are done or `stop` is
/// set. `on_unit` is called on this thread, in the order in which units end.
pub fn run_units(
    plan: &Plan,
    host: &Host,
    pending: &[u64],
    jobs: usize,
    stop: &AtomicBool,
    on_unit: &mut dyn FnMut(UnitResult) -> Result<(), Error>,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let pool = Pool { plan, host, pending, next: &next, stop };
    std::thread::scope(|scope| {
        let (send, receive) = channel();
        let mut failure = None;
        let jobs = jobs.min(pending.len());
        for number in 1..=jobs {
            let send = send.clone();
            if let Err(why) = Builder::new().spawn_scoped(scope, move || pool.work(&send)) {
                stop.store(true, Relaxed);
                failure = Some(Error::Thread { number, jobs, why });
                break;
            }
        }
        drop(send);
        for message in receive {
            let ended = message.and_then(|unit| if failure.is_none() { on_unit(unit) } else { Ok(()) });
            if let Err(e) = ended {
                stop.store(true, Relaxed);
                failure.get_or_insert(e);
            }
        }
        failure.map_or(Ok(()), Err)
    })
}

#[derive(Clone, Copy)]
struct Pool<'a> {
    plan: &'a Plan,
    host: &'a Host,
    pending: &'a [u64],
    next: &'a AtomicUsize,
    stop: &'a AtomicBool,
}

type Message = Result<UnitResult, Error>;

impl Pool<'_> {
    fn take(&self) -> Option<u64> {
        if self.stop.load(Relaxed) {
            return None;
        }
        self.pending.get(self.next.fetch_add(1, Relaxed)).copied()
    }

    /// One thread: takes units until there are no more. Those of one cell come in
    /// ascending order, and share a session.
    fn work(&self, send: &Sender<Message>) {
        let mut unit = self.take();
        while let Some(first) = unit {
            match self.cell(first, send) {
                Ok(next) => unit = next,
                // While a machine boots: what was found stands, as where a unit is interrupted.
                Err(Error::Machine { why: crate::machine::Error::Interrupted, .. }) => return,
                Err(e) => {
                    let _ = send.send(Err(e));
                    return;
                }
            }
        }
    }

    /// Runs units of the cell that `first` belongs to; returns the first of another.
    fn cell(&self, first: u64, send: &Sender<Message>) -> Result<Option<u64>, Error> {
        let cell = &self.plan.cells[self.plan.cell_of(first)];
        let knobs = self.plan.campaign.knobs;
        if let Work::Closure(bounds) = cell.work {
            let begin = Instant::now();
            let (tally, whole) = closure::search(self.plan, cell, bounds, self.host, self.stop)?;
            let _ = send.send(Ok(UnitResult { unit: first, tally, took: begin.elapsed(), whole }));
            return Ok(self.take());
        }
        if let Work::HostLimit(why) = &cell.work {
            let mut tally = Tally::default();
            let rank = Rank { events: 0, unit: first, index: 0 };
            tally.add(&Verdict::HostLimit { why: why.clone() }, rank, String::new);
            let _ = send.send(Ok(UnitResult { unit: first, tally, took: Duration::ZERO, whole: true }));
            return Ok(self.take());
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
            let whole = match runner.unit(number, &mut tally, self.stop) {
                Err(RunError::Machine(crate::machine::Error::Interrupted)) => false,
                end => end.map_err(|e| self.failed(cell, e))?.is_continue(),
            };
            // The receiver outlives us; were it gone, nobody would want the result.
            let _ = send.send(Ok(UnitResult { unit: number, tally, took: begin.elapsed(), whole }));
            unit = self.take();
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
                out
            }
        }
    }
}
