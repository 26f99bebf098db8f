//! What was explored is run again in the gears: each violation's path, and a sample of
//! the others.

use super::config::{Error, Found};
use super::path;
use super::search::{Broken, Search};
use super::states::{Id, Next};
use crate::inject::{Gear, Session, run};

impl Search {
    /// Runs each violation's path again in every gear: its verdict is what they say.
    pub fn confirm(&mut self, session: &mut Session) -> Result<(), Error> {
        for Broken { mut verdict, path, .. } in std::mem::take(&mut self.found) {
            let schedule = path::schedule(session, &path, self.config.reductions)?;
            for gear in [Gear::Step, Gear::Jump, Gear::Arm] {
                let again = run(session, &schedule, gear, &mut ())?;
                let same = again.kind() == verdict.kind();
                self.report.disagreements += u64::from(!same);
                if same && gear == Gear::Step {
                    verdict = again;
                }
            }
            self.report.cross_checked += 1;
            self.report.violations.push(Found { verdict, schedule });
        }
        self.report.violations.sort_by_key(|f| f.schedule.0.len());
        Ok(())
    }

    /// Runs a sample of explored paths again in every gear, with nothing more arriving.
    pub fn cross_check(&mut self, session: &mut Session) -> Result<(), Error> {
        let (n, of) = (self.config.cross_check, self.states.len());
        for i in 0..n.min(of) {
            let id = (i * of / n.min(of)) as Id;
            let pass = match self.states.outcome(id) {
                Next::End => true,
                Next::Unknown => continue, // not expanded, where a bound was hit
                Next::Fails | Next::State(_) => false,
            };
            let path = self.states.path(id);
            let schedule = path::schedule(session, &path, self.config.reductions)?;
            for gear in [Gear::Arm, Gear::Step, Gear::Jump] {
                let verdict = run(session, &schedule, gear, &mut ())?;
                if verdict.is_pass() != pass {
                    let text = schedule.show(session.rules().names());
                    log::error!("the explorer says pass={pass} for {text}; gear {gear:?} says {verdict}");
                    self.report.disagreements += 1;
                }
            }
            self.report.cross_checked += 1;
        }
        Ok(())
    }
}
