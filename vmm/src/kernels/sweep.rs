//! A further NMI, or a fault, at each boundary of a path.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::case::Outcome;
use super::error::LabError;
use super::expect::Expected;
use super::lab::Lab;
use super::path::Path;
use crate::inject::{At, Event, Gear, Kind as EventKind};
use crate::oracle::{Invariant, Verdict};

/// How the further NMI finds the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it is: NMIs blocked, but for entry code that unblocks them.
    Masked,
    /// Something unblocked NMIs just before: a fault's iretq in the handler, an SMI, a
    /// machine check.
    Unmasked,
}

impl Kind {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Masked => "masked",
            Kind::Unmasked => "unmasked",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Masked => "as the CPU left them",
            Kind::Unmasked => "unblocked there",
        })
    }
}

/// One case of a sweep.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where the last NMI arrived.
    pub at: At,
    /// Whether NMIs are blocked where it arrives.
    pub kind: Kind,
    /// Every event of the case, in order.
    pub events: Vec<Event>,
    /// What came of it.
    pub outcome: Outcome,
    /// What was to be expected.
    pub expected: Expected,
}

impl Row {
    /// The case that a schedule of its own is.
    pub fn of(lab: &mut Lab, events: &[Event], gear: Gear) -> Result<Self, LabError> {
        let expected = lab.expected(events)?;
        let outcome = lab.case(events, gear)?;
        let last = events.iter().rev().find(|e| e.kind == EventKind::Nmi);
        let at = last.map_or(lab.start(), |e| e.at);
        let unmasked = events.iter().any(|e| e.kind == EventKind::Unmask && e.at == at);
        let kind = if unmasked { Kind::Unmasked } else { Kind::Masked };
        Ok(Self { at, kind, events: events.to_vec(), outcome, expected })
    }

    /// Whether it shows a defect.
    pub fn is_defect(&self) -> bool {
        self.expected.survives() && !self.outcome.verdict.is_pass() && !self.is_silent()
    }

    /// Whether it says nothing about its boundary, which was not come to, or which this
    /// host cannot show.
    pub fn is_silent(&self) -> bool {
        matches!(self.outcome.verdict, Verdict::HostLimit { .. })
            || self.outcome.unreached > 0 && self.outcome.verdict.is_pass()
    }
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SweepStats {
    /// How many cases were run.
    pub cases: u64,
    /// Cases that show a defect.
    pub defects: u64,
    /// Cases that say nothing about their boundary: it was not come to, since what was
    /// walked before did not repeat itself, or this host cannot show it.
    pub missed: u64,
    /// Cases run again with NMIs raised by `KVM_NMI`.
    pub rechecked: u64,
    /// Of these, how many came to another verdict.
    pub disagreed: u64,
}

impl std::ops::AddAssign for SweepStats {
    fn add_assign(&mut self, more: Self) {
        self.cases += more.cases;
        self.defects += more.defects;
        self.missed += more.missed;
        self.rechecked += more.rechecked;
        self.disagreed += more.disagreed;
    }
}

/// CPU time for a case that no kernel can survive.
const DOOMED: Duration = Duration::from_millis(25);

/// What a handler that nowhere saves CR2 says about faults.
const NO_CR2: &str = "its path nowhere saves CR2 to put it back, so that its handler may fault nowhere";

/// What a path without any C code says nothing about.
const NO_C_CODE: &str = "its path has no code besides the entry code, so that nothing was looked at in the handler";

/// A sweep over one lab and site.
pub struct Sweep<'a> {
    lab: &'a mut Lab,
    /// Where #1's handler faults in every case.
    fault: Option<At>,
    /// Every so many cases, one is run again with NMIs raised by `KVM_NMI` (0: none).
    recheck: u64,
    stats: SweepStats,
    /// Livelocks that more time did not end; after some, no more is given.
    confirmed: u32,
    /// Set from outside to stop at the next case.
    stop: &'a AtomicBool,
}

/// Called with each case and how many there are in its part of the sweep.
pub type OnRow<'r> = dyn FnMut(&Row, &Lab, usize) + 'r;

impl<'a> Sweep<'a> {
    /// A sweep from the lab's site, until `stop` is set.
    pub fn new(lab: &'a mut Lab, recheck: u64, stop: &'a AtomicBool) -> Self {
        Self { lab, fault: None, recheck, stats: SweepStats::default(), confirmed: 0, stop }
    }

    /// What was done so far.
    pub fn stats(&self) -> SweepStats {
        self.stats
    }

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
    pub(super) fn first(&self) -> Vec<Event> {
        let nmi = Event { kind: EventKind::Nmi, at: self.lab.start() };
        [nmi].into_iter().chain(self.fault.map(|at| Event { kind: EventKind::Fault, at })).collect()
    }

    /// A single NMI must pass before more are tried. Returns its path.
    pub fn single(&mut self) -> Result<Path, LabError> {
        let events = self.first();
        let outcome = self.lab.case(&events, Gear::Arm)?;
        let name = match self.fault {
            None => self.site(),
            Some(_) => self.lab.show_schedule(&events),
        };
        if !outcome.verdict.is_pass() {
            return Err(LabError::Single(name, outcome.verdict.to_string()));
        }
        if outcome.unreached > 0 {
            return Err(LabError::Single(name, "its handler does not come to the fault's place".into()));
        }
        let path = self.lab.walk(&events)?;
        match path.wrong_flags(self.lab.path()) {
            None if path.in_handler(self.lab.path()).is_none() => Err(LabError::Single(name, NO_C_CODE.into())),
            None => Ok(path),
            Some(why) => {
                let verdict = Verdict::breaks(Invariant::View, why);
                Err(LabError::Single(name, verdict.to_string()))
            }
        }
    }

    /// A page fault at each boundary of #1's path; where NMIs are to be unblocked, with NMI #2
    /// where that fault's iretq, which unblocks them, returns to.
    pub fn fault(&mut self, kind: Kind, on_row: &mut OnRow) -> Result<(), LabError> {
        let path = self.single()?;
        if path.may_fault().next().is_none() {
            return Err(LabError::Single(self.site(), NO_CR2.into()));
        }
        for visit in &path.visits {
            if self.stop.load(Relaxed) {
                return Ok(());
            }
            let mut events = self.first();
            events.push(Event { kind: EventKind::Fault, at: visit.at });
            if kind == Kind::Unmasked {
                events.push(Event { kind: EventKind::Nmi, at: At { n: visit.at.n + 1, ..visit.at } });
            }
            self.one(visit.at, kind, events, Expected::of_fault(visit), path.visits.len(), on_row)?;
        }
        Ok(())
    }

    /// NMI #2 at each boundary of #1's path.
    pub fn second(&mut self, kind: Kind, on_row: &mut OnRow) -> Result<(), LabError> {
        let path = self.single()?;
        let prefix = self.first();
        self.each(&prefix, &path, 0..path.visits.len(), kind, on_row)
    }

    /// NMI #3 at each boundary of the nested path: that of an NMI #2 which arrives,
    /// NMIs unblocked, at the first boundary of the handler's C code, until execution
    /// is back there, and then of what #1 repeats for its sake.
    pub fn third(&mut self, kind: Kind, on_row: &mut OnRow) -> Result<(), LabError> {
        let path = self.single()?;
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
        self.each(&prefix, &nested, from..nested.visits.len(), kind, on_row)
    }

    fn each(
        &mut self,
        prefix: &[Event],
        path: &Path,
        range: std::ops::Range<usize>,
        kind: Kind,
        on_row: &mut OnRow,
    ) -> Result<(), LabError> {
        let total = range.len();
        for visit in &path.visits[range] {
            if self.stop.load(Relaxed) {
                return Ok(());
            }
            let mut events = prefix.to_vec();
            if kind == Kind::Unmasked {
                events.push(Event { kind: EventKind::Unmask, at: visit.at });
            }
            events.push(Event { kind: EventKind::Nmi, at: visit.at });
            let expected = Expected::of(visit, kind == Kind::Unmasked);
            self.one(visit.at, kind, events, expected, total, on_row)?;
        }
        Ok(())
    }

    /// Runs one case of `total`.
    fn one(
        &mut self,
        at: At,
        kind: Kind,
        events: Vec<Event>,
        expected: Expected,
        total: usize,
        on_row: &mut OnRow,
    ) -> Result<(), LabError> {
        let outcome = self.surely(&events, Gear::Jump, expected)?;
        let mut row = Row { at, kind, events, outcome, expected };
        self.stats.cases += 1;
        if let Some(seen) = self.check_again(&row)? {
            row.outcome = seen;
        }
        self.stats.defects += u64::from(row.is_defect());
        self.stats.missed += u64::from(row.is_silent());
        on_row(&row, self.lab, total);
        Ok(())
    }

    /// Runs a case; where the host may have been too slow for its limit, or so slow that
    /// the kernel went another way, with more and more time.
    fn surely(&mut self, events: &[Event], gear: Gear, expected: Expected) -> Result<Outcome, LabError> {
        let limit = self.lab.limit;
        if !expected.survives() {
            // Whether it goes round for ever or stops in another way is all one.
            self.lab.limit = limit.min(DOOMED);
        }
        let outcome = self.lab.case(events, gear);
        self.lab.limit = limit;
        let mut outcome = outcome?;
        for factor in [4, 16] {
            let slow = matches!(outcome.verdict, Verdict::Livelock { .. });
            let again = outcome.unreached > 0 && !slow || slow && self.confirmed < 2;
            if !expected.survives() || !again {
                return Ok(outcome);
            }
            self.lab.limit = limit * factor;
            let again = self.lab.case(events, gear);
            self.lab.limit = limit;
            outcome = again?;
        }
        self.confirmed += u32::from(matches!(outcome.verdict, Verdict::Livelock { .. }));
        Ok(outcome)
    }

    /// The other way to raise NMIs must come to the same. What it came to, where the case passed
    /// and this did not: a pass that is contradicted is none.
    fn check_again(&mut self, row: &Row) -> Result<Option<Outcome>, LabError> {
        if self.recheck == 0 || !self.stats.cases.is_multiple_of(self.recheck) {
            return Ok(None);
        }
        let again = self.surely(&row.events, Gear::Arm, row.expected)?;
        self.stats.rechecked += 1;
        let word = |o: &Outcome| (o.verdict.kind(), o.handled);
        if row.outcome.verdict.is_pass() != again.verdict.is_pass()
            || (again.verdict.is_pass() && word(&again) != word(&row.outcome))
        {
            self.stats.disagreed += 1;
            let schedule = self.lab.show_schedule(&row.events);
            log::error!("gears disagree on {schedule}: jump says {}, arm says {}", row.outcome.verdict, again.verdict);
        }
        Ok(Some(again).filter(|again| row.outcome.verdict.is_pass() && !again.verdict.is_pass()))
    }
}
