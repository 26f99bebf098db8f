//! Runs the cases of a sweep, each so that the host's speed does not matter.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::case::Outcome;
use super::error::LabError;
use super::expect::Expected;
use super::kind::{Case, Kind};
use super::lab::Lab;
use crate::inject::{At, Event, Gear, Kind as EventKind};
use crate::oracle::Verdict;

/// A case as it came out.
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

/// A sweep over one lab and site.
pub struct Sweep<'a> {
    pub(super) lab: &'a mut Lab,
    /// Where #1's handler faults in every case.
    pub(super) fault: Option<At>,
    /// Every so many cases, one is run again with NMIs raised by `KVM_NMI` (0: none).
    recheck: u64,
    stats: SweepStats,
    /// Livelocks that more time did not end; after some, no more is given.
    confirmed: u32,
    /// Set from outside to stop at the next case.
    pub(super) stop: &'a AtomicBool,
}

/// Called with each case and how many there are in its part of the sweep.
pub type OnRow<'r> = dyn FnMut(&Row, &Lab, usize) + 'r;

impl<'a> Sweep<'a> {
    /// A sweep from the lab's site, until `stop` is set.
    pub fn new(lab: &'a mut Lab, recheck: u64, stop: &'a AtomicBool) -> Self {
        Self { lab, fault: None, recheck, stats: SweepStats::default(), confirmed: 0, stop }
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        self.lab
    }

    /// What was done so far.
    pub fn stats(&self) -> SweepStats {
        self.stats
    }

    /// Runs one case.
    pub fn one(&mut self, case: &Case) -> Result<Row, LabError> {
        let Case { at, kind, events, expected } = case.clone();
        let outcome = self.surely(&events, Gear::Jump, expected)?;
        let mut row = Row { at, kind, events, outcome, expected };
        self.stats.cases += 1;
        if let Some(seen) = self.check_again(&row)? {
            row.outcome = seen;
        }
        self.stats.defects += u64::from(row.is_defect());
        self.stats.missed += u64::from(row.is_silent());
        Ok(row)
    }

    /// Runs a case; where the host may have been too slow for its limit, or so slow that
    /// the kernel went another way, with more and more time.
    fn surely(&mut self, events: &[Event], gear: Gear, expected: Expected) -> Result<Outcome, LabError> {
        let limit = self.lab.limit;
        if !expected.survives() {
            self.lab.limit = limit.min(DOOMED);
        }
        let outcome = self.lab.case(events, gear);
        self.lab.limit = limit;
        let mut outcome = outcome?;
        if !expected.survives() {
            // What does not go round yet may be about to stop in another way: with the short limit, how
            // fast the host is would decide.
            let undecided = matches!(outcome.verdict, Verdict::Livelock { .. }) && !self.lab.went_round;
            return if undecided { self.lab.case(events, gear) } else { Ok(outcome) };
        }
        for factor in [4, 16] {
            let slow = matches!(outcome.verdict, Verdict::Livelock { .. });
            let again = outcome.unreached > 0 && !slow || slow && self.confirmed < 2;
            if !again {
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
