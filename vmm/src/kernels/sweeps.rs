//! Runs planned sweeps: on several threads, each with a kernel of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::arrival::Start;
use super::error::LabError;
use super::header::{Header, RECHECK, UNIT, Unit};
use super::kind::Case;
use super::lab::Lab;
use super::results::{Results, SweepInfo, units};
use super::row::CaseRow;
use super::sweep::Sweep;
use crate::folder::{self, Ended, Filled, Options, Queue, Step, Watcher, fill};

/// Has a kernel come up, for a thread.
pub type Open<'o> = dyn Fn() -> Result<Lab, LabError> + Sync + 'o;

/// Why sweeps could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The result folder, or a thread.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// The kernel.
    #[error(transparent)]
    Lab(#[from] LabError),
}

/// Makes the sweeps of a header, or goes on with them. `on_cell` is called with each sweep that is
/// over, in their order; those of sites that were given up come last. Returns what came of them, and
/// whether all that was asked for was run.
pub fn run(
    header: Header,
    open: &Open<'_>,
    options: &Options,
    watcher: &mut dyn Watcher,
    on_cell: &mut dyn FnMut(&SweepInfo),
) -> Result<(Results, bool), SweepError> {
    let failed = Mutex::new(BTreeMap::new());
    let workers = Workers { header: &header, open, failed: &failed };
    let cells = header.cells.len();
    let mut times = vec![(0u64, 0f64); cells];
    let mut results = Results {
        header: header.clone(),
        units: BTreeMap::new(),
        partial: BTreeMap::new(),
        failed: BTreeMap::new(),
        seconds: vec![None; cells],
    };
    let mut told = 0;
    let mut on_unit = |step: &Step<'_, Unit>, watcher: &mut dyn Watcher| {
        let number = header.cell_of(step.unit);
        let cell = &header.cells[number];
        let group = &header.groups[cell.group];
        watcher.unit(&group.site, cell.part.word(), step.result.rows.len() as u64);
        times[number].0 += 1;
        times[number].1 += step.took.as_secs_f64();
        // What is over, and was not reported yet.
        while let Some(cell) = header.cells.get(told) {
            if !units(cell).filter(|u| options.shard.has(*u)).all(|u| step.units.contains_key(&u)) {
                break;
            }
            let range = units(cell);
            results.units.extend(step.units.range(range).map(|(n, unit)| (*n, unit.clone())));
            results.seconds[told] = (times[told].0 == cell.units).then_some(times[told].1);
            let info = SweepInfo::of(&results, told);
            if !info.rows.is_empty() {
                on_cell(&info);
            }
            told += 1;
        }
        Ok(())
    };
    let filled = fill(&header, options, watcher, &|queue| workers.work(queue), &mut on_unit);
    let Filled { units, partial, finished } = filled?;
    (results.units, results.partial) = (units, partial);
    results.failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for cell in told..cells {
        let info = SweepInfo::of(&results, cell);
        if !info.rows.is_empty() {
            on_cell(&info);
        }
    }
    Ok((results, finished))
}

/// What all threads share.
struct Workers<'a> {
    header: &'a Header,
    open: &'a Open<'a>,
    /// Groups whose sweeps were given up, and why.
    failed: &'a Mutex<BTreeMap<usize, String>>,
}

/// A thread's kernel, and what it is at.
struct Worker {
    lab: Lab,
    group: Option<usize>,
    cell: Option<usize>,
    cases: Vec<Case>,
}

impl Workers<'_> {
    fn work(&self, queue: &Queue<'_, Unit, SweepError>) -> Result<(), SweepError> {
        let Some(mut unit) = queue.take() else { return Ok(()) };
        let mut lab = (self.open)()?;
        lab.set_limit(Duration::from_millis(self.header.case_limit));
        let mut worker = Worker { lab, group: None, cell: None, cases: Vec::new() };
        loop {
            let group = self.header.cells[self.header.cell_of(unit)].group;
            if !self.gave_up(group, None) {
                let begin = Instant::now();
                match self.unit(&mut worker, unit, queue.stop()) {
                    Ok((result, whole)) => queue.ended(Ended { unit, result, took: begin.elapsed(), whole }),
                    Err(why) => {
                        (worker.group, worker.cell) = (None, None);
                        self.gave_up(group, Some(why.to_string()));
                    }
                }
            }
            match queue.take() {
                Some(next) => unit = next,
                None => return Ok(()),
            }
        }
    }

    /// Whether a group was given up; it is from now on where there is a reason.
    fn gave_up(&self, group: usize, why: Option<String>) -> bool {
        // A thread that panicked with the lock has left the map whole.
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = why {
            failed.entry(group).or_insert(why);
        }
        failed.contains_key(&group)
    }

    /// Runs one unit; whether it was run to its end.
    fn unit(&self, worker: &mut Worker, unit: u64, stop: &AtomicBool) -> Result<(Unit, bool), LabError> {
        let number = self.header.cell_of(unit);
        let cell = &self.header.cells[number];
        let group = &self.header.groups[cell.group];
        let Worker { lab, .. } = worker;
        if worker.group != Some(cell.group) {
            lab.set_fault_by(group.fault_by);
            lab.go(&group.mutate, Start::Site(&group.asked))?;
            (worker.group, worker.cell) = (Some(cell.group), None);
        }
        if worker.cell != Some(number) {
            let mut sweep = Sweep::new(lab, 0, stop);
            group.fault.as_ref().map(|place| sweep.fault_in_handler(place)).transpose()?;
            worker.cases = sweep.cases(cell.part, cell.nmis)?;
            worker.cell = Some(number);
        }
        if worker.cases.len() as u64 != cell.cases {
            let (now, then) = (worker.cases.len() as u64, cell.cases);
            return Err(LabError::Unlike { now, then });
        }
        let mut sweep = Sweep::new(lab, RECHECK, stop);
        let first = (unit - cell.first_unit) as usize * UNIT;
        let mut out = Unit::default();
        for case in worker.cases.iter().skip(first).take(UNIT) {
            if stop.load(Relaxed) {
                return Ok((out, false));
            }
            let row = sweep.one(case)?;
            out.rows.push(CaseRow::of(&row, sweep.lab()));
            (out.rechecked, out.disagreed) = (sweep.stats().rechecked, sweep.stats().disagreed);
        }
        Ok((out, true))
    }
}
