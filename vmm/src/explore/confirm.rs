//! What was explored is run again in the gears: each violation's path, and a sample of
//! the others.

use super::config::{Bound, Error, Found, Growth};
use super::path;
use super::search::{Broken, Search};
use super::states::{Id, Next};
use super::threads::in_order;
use super::worker::Worker;
use crate::inject::{Gear, Kind, RunError, Schedule, Session, Settled, Visitor, run, settle, stop};
use crate::machine;

impl Search {
    /// Runs each violation's path again in every gear: its verdict is what they say.
    pub fn confirm(&mut self, session: &mut Session) -> Result<(), Error> {
        for Broken { mut verdict, path, .. } in std::mem::take(&mut self.found) {
            let schedule = match path::schedule(session, &path, self.config.reductions) {
                Err(machine::Error::Interrupted) => {
                    self.report.bound = Some(Bound::Interrupted);
                    continue;
                }
                schedule => schedule?,
            };
            match in_every_gear(session, &schedule) {
                // The search runs chains freely: what it saw broken need not be the first rule.
                Ok(Some(settled)) if !settled.verdict.is_pass() => {
                    self.report.disagreements += u64::from(settled.disagree);
                    verdict = settled.verdict;
                }
                Ok(_) => self.report.disagreements += 1,
                Err(RunError::Machine(machine::Error::Interrupted)) => self.report.bound = Some(Bound::Interrupted),
                Err(e) => return Err(e.into()),
            }
            self.report.cross_checked += 1;
            self.report.violations.push(Found { verdict, schedule });
        }
        self.report.violations.sort_by_key(|f| f.schedule.0.len());
        Ok(())
    }

    /// Runs a sample of explored paths again in every gear, with nothing more arriving. Where the
    /// user wants an end, that is the report's bound.
    pub fn cross_check(&mut self, workers: &mut [Worker]) -> Result<(), Error> {
        let (n, of) = (self.config.cross_check, self.states.len());
        let n = n.min(of);
        let check = |worker: &mut Worker, i: usize| match self.check_path(&mut worker.session, (i * of / n) as Id) {
            Err(e) if e.is_interruption() => Ok(None),
            checked => checked.map(Some),
        };
        let checked = in_order(workers, n, check, Option::is_none)?;
        for disagreements in checked {
            match disagreements {
                Some(Some(disagreements)) => {
                    self.report.disagreements += disagreements;
                    self.report.cross_checked += 1;
                }
                Some(None) => {}
                None => self.report.bound = Some(Bound::Interrupted),
            }
        }
        Ok(())
    }

    /// Runs the path to a state again, in every gear: how many come to another verdict. `None` where
    /// the search does not know where it leads.
    fn check_path(&self, session: &mut Session, id: Id) -> Result<Option<u64>, Error> {
        if stop::requested() {
            return Err(machine::Error::Interrupted.into());
        }
        let pass = match self.states.outcome(id) {
            Next::End => true,
            Next::Unknown => return Ok(None), // not expanded, where a bound was hit
            Next::Fails | Next::State(_) => false,
        };
        let schedule = path::schedule(session, &self.states.path(id), self.config.reductions)?;
        let mut disagreements = 0;
        for gear in [Gear::Arm, Gear::Step, Gear::Jump] {
            let verdict = run(session, &schedule, gear, &mut ())?;
            if verdict.is_pass() != pass {
                let text = schedule.show(session.rules().names());
                log::error!("the explorer says pass={pass} for {text}; gear {gear:?} says {verdict}");
                disagreements += 1;
            }
        }
        Ok(Some(disagreements))
    }
}

impl Search {
    /// How nesting grows on the way to where it was deepest, where it does. Where an instruction was
    /// interrupted at one level and at the next, further NMIs are sent there, and each must nest as
    /// far below the last.
    pub fn growth(&self, session: &mut Session) -> Result<Option<Growth>, Error> {
        let (from, edge) = self.deepest;
        let path: Vec<_> = self.states.path(from).into_iter().chain([edge]).collect();
        let Schedule(mut events) = path::schedule(session, &path, self.config.reductions)?;
        let Some(levels) = nested(session, &Schedule(events.clone()))? else { return Ok(None) };
        let twice = levels.windows(2).find(|two| two[0].at == two[1].at && two[0].rsp > two[1].rsp);
        let Some(at) = twice.map(|two| two[0].at) else { return Ok(None) };
        events.truncate(events.iter().rposition(|e| e.at.addr == at).map_or(0, |last| last + 1));
        let Some(mut last) = events.last().copied() else { return Ok(None) };
        for _ in 0..MORE_LEVELS {
            last.at.n += 1;
            events.push(last);
        }
        let schedule = Schedule(events);
        let Some(levels) = nested(session, &schedule)? else { return Ok(None) };
        let Some([.., a, b, c, d]) = levels.get(..) else { return Ok(None) };
        let bytes = a.rsp.wrapping_sub(b.rsp);
        let alike = |x: &Level, y: &Level| x.at == at && y.at == at && (x.nmis + 1, x.rsp) == (y.nmis, y.rsp + bytes);
        let grows = alike(a, b) && alike(b, c) && alike(c, d);
        Ok(grows.then_some(Growth { at, bytes, nmis: d.nmis, schedule }))
    }
}

/// How many NMIs more than were seen must nest alike.
const MORE_LEVELS: usize = 2;

/// A nested NMI that was delivered.
#[derive(Clone, Copy)]
struct Level {
    /// The instruction that it interrupted.
    at: u64,
    /// How many were live then.
    nmis: u32,
    /// The stack pointer that it found.
    rsp: u64,
}

/// The nested NMIs of a schedule, in the order of their deliveries; `None` where it does not happen.
fn nested(session: &mut Session, schedule: &Schedule) -> Result<Option<Vec<Level>>, Error> {
    let mut levels = Levels::default();
    match run(session, schedule, Gear::Step, &mut levels) {
        Ok(_) => Ok(Some(levels.0)),
        Err(RunError::NeverReached { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[derive(Default)]
struct Levels(Vec<Level>);

impl Visitor for Levels {
    fn delivered(&mut self, session: &Session, _: Kind) {
        let frames = &session.oracle().ghost.frames;
        self.0.extend(frames.nested().map(|words| Level { at: words.rip, nmis: frames.nmis(), rsp: words.rsp }));
    }
}

/// What all gears come to on a schedule.
fn in_every_gear(session: &mut Session, schedule: &Schedule) -> Result<Option<Settled>, RunError> {
    let verdicts = Gear::ALL.into_iter().map(|gear| Ok((gear, run(session, schedule, gear, &mut ())?)));
    Ok(settle(&verdicts.collect::<Result<Vec<_>, RunError>>()?))
}
