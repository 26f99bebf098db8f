//! Which cases a sweep consists of: what arrives at each boundary of a path, and what is expected
//! of that.

use std::sync::atomic::Ordering::Relaxed;

use super::campaign::Part;
use super::error::LabError;
use super::expect::Expected;
use super::kind::{Case, Kind};
use super::path::{Path, Visit};
use super::sweep::{OnRow, Sweep};
use crate::inject::{At, Event, Gear, Kind as EventKind};
use crate::oracle::{Invariant, Verdict};

/// What a handler that nowhere saves CR2 says about faults.
const NO_CR2: &str = "its path nowhere saves CR2 to put it back, so that its handler may fault nowhere";

/// What a path without any C code says nothing about.
const NO_C_CODE: &str = "its path has no code besides the entry code, so that nothing was looked at in the handler";

/// What a single NMI came to.
pub enum Alone {
    /// It passes, on this path.
    Passes(Path),
    /// It does not.
    Breaks(Verdict),
    /// Nothing can be said about more, for this reason.
    Unsaid(String),
}

impl Sweep<'_> {
    /// In every case #1's handler faults: at `place`, or, for `auto`, at the first boundary where
    /// it may. Returns the place.
    pub fn fault_in_handler(&mut self, place: &str) -> Result<String, LabError> {
        let at = match place {
            "auto" => {
                let path = self.single()?;
                let none = || LabError::Single(self.site(), NO_CR2.into());
                path.may_fault().next().ok_or_else(none)?
            }
            place => {
                let events = self.lab.schedule(&format!("nmi@user fault@{place}"))?.0;
                events[events.len() - 1].at
            }
        };
        self.fault = Some(at);
        let shown = self.lab.show_schedule(&[Event { kind: EventKind::Fault, at }]);
        Ok(shown.trim_start_matches("fault@").to_owned())
    }

    fn site(&self) -> String {
        self.lab.show(self.lab.start().addr)
    }

    /// Where #1's handler faults.
    pub(super) fn faults_at(&self) -> Option<At> {
        self.fault
    }

    /// What every case begins with.
    pub fn first(&self) -> Vec<Event> {
        let nmi = Event { kind: EventKind::Nmi, at: self.lab.start() };
        [nmi].into_iter().chain(self.fault.map(|at| Event { kind: EventKind::Fault, at })).collect()
    }

    /// A single NMI must pass before more are tried. Returns its path.
    pub fn single(&mut self) -> Result<Path, LabError> {
        let why = match self.alone()? {
            Alone::Passes(path) => return Ok(path),
            Alone::Breaks(verdict) => verdict.to_string(),
            Alone::Unsaid(why) => why,
        };
        let name = match self.fault {
            None => self.site(),
            Some(_) => self.lab.show_schedule(&self.first()),
        };
        Err(LabError::Single(name, why))
    }

    /// What a single NMI comes to.
    pub fn alone(&mut self) -> Result<Alone, LabError> {
        let events = self.first();
        let outcome = self.lab.case(&events, Gear::Arm)?;
        if !outcome.verdict.is_pass() {
            return Ok(Alone::Breaks(outcome.verdict));
        }
        if outcome.unreached > 0 {
            return Ok(Alone::Unsaid("its handler does not come to the fault's place".into()));
        }
        let path = self.lab.walk(&events)?;
        let gs = self.lab.kernel.handler_gs(&self.lab.pc)?;
        let wrong_gs = || gs.and_then(|(code, gs)| path.wrong_gs(code, gs));
        Ok(match path.wrong_flags(self.lab.path()).or_else(wrong_gs) {
            None if self.lab.kernel.has_c_code() && path.in_handler(self.lab.path()).is_none() => {
                Alone::Unsaid(NO_C_CODE.into())
            }
            None => Alone::Passes(path),
            Some(why) => Alone::Breaks(Verdict::breaks(Invariant::View, why)),
        })
    }

    /// Every case of a part, in order, until it is to stop.
    pub fn all(&mut self, part: Part, kind: Kind, on_row: &mut OnRow) -> Result<(), LabError> {
        let cases = self.cases(part, kind)?;
        let total = cases.len();
        for case in &cases {
            if self.stop.load(Relaxed) {
                break;
            }
            let row = self.one(case)?;
            on_row(&row, self.lab, total);
        }
        Ok(())
    }

    /// The cases of a part, in the order of its path.
    pub fn cases(&mut self, part: Part, kind: Kind) -> Result<Vec<Case>, LabError> {
        let path = self.single()?;
        match part {
            Part::Second => Ok(each(&self.first(), &path.visits, kind)),
            Part::Third => self.third(&path, kind),
            Part::Fault => self.faults(&path, kind),
        }
    }

    /// A page fault at each boundary of #1's path; where NMIs are to be unblocked, with NMI #2
    /// where that fault's iretq, which unblocks them, returns to.
    fn faults(&self, path: &Path, kind: Kind) -> Result<Vec<Case>, LabError> {
        if path.may_fault().next().is_none() {
            return Err(LabError::Single(self.site(), NO_CR2.into()));
        }
        let case = |visit: &Visit| {
            let mut events = self.first();
            events.push(Event { kind: EventKind::Fault, at: visit.at });
            if kind == Kind::Unmasked {
                events.push(Event { kind: EventKind::Nmi, at: At { n: visit.at.n + 1, ..visit.at } });
            }
            Case { at: visit.at, kind, events, expected: Expected::of_fault(visit) }
        };
        Ok(path.visits.iter().map(case).collect())
    }

    /// NMI #3 at each boundary of the nested path: that of an NMI #2 which arrives,
    /// NMIs unblocked, at the first boundary of the handler's C code, until execution
    /// is back there, and then of what #1 repeats for its sake.
    fn third(&mut self, path: &Path, kind: Kind) -> Result<Vec<Case>, LabError> {
        let none = |why: &str| LabError::Single(self.site(), why.to_owned());
        let mut prefix = self.first();
        // Where a fault's iretq has unblocked NMIs in the C code already, nothing else need.
        match path.open_in_handler(self.lab.path()) {
            Some(at) => prefix.push(Event { kind: EventKind::Nmi, at }),
            None => {
                let at = path.in_handler(self.lab.path()).ok_or_else(|| none(NO_C_CODE))?;
                prefix.extend([EventKind::Unmask, EventKind::Nmi].map(|kind| Event { kind, at }));
            }
        }
        let nested = self.lab.walk(&prefix)?;
        let from = nested.deliveries.get(1).copied();
        let from = from.ok_or_else(|| {
            LabError::Single(self.lab.show_schedule(&prefix), "NMI #2 was not delivered, so that none nests".into())
        })?;
        Ok(each(&prefix, &nested.visits[from..], kind))
    }
}

/// After `prefix`, an NMI at each boundary.
fn each(prefix: &[Event], visits: &[Visit], kind: Kind) -> Vec<Case> {
    let case = |visit: &Visit| {
        let mut events = prefix.to_vec();
        if kind == Kind::Unmasked {
            events.push(Event { kind: EventKind::Unmask, at: visit.at });
        }
        events.push(Event { kind: EventKind::Nmi, at: visit.at });
        let expected = match events.iter().all(|e| e.kind == EventKind::Nmi) {
            true => Expected::alone(visit),
            false => Expected::of(visit, kind == Kind::Unmasked),
        };
        Case { at: visit.at, kind, events, expected }
    };
    visits.iter().map(case).collect()
}
