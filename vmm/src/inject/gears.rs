//! Carries out one schedule, in any gear.

use std::fmt;
use std::str::FromStr;

use super::course::Course;
use super::event::{Kind, Seen};
use super::moves::Advance;
use super::rounds::{Laps, Rounds};
use super::schedule::Schedule;
use super::session::Session;
use super::stop;
use crate::image::Names;
use crate::machine::{Error, Raise};
use crate::oracle::Verdict;

/// How a schedule is carried out. All gears must come to the same verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gear {
    /// Run freely to each boundary and raise a real NMI there: what an external NMI does.
    Arm,
    /// One instruction at a time.
    Step,
    /// From a checkpoint at the boundary, with the NMI pending in the vCPU events.
    Jump,
}

impl Gear {
    /// All of them, the reference first.
    pub const ALL: [Self; 3] = [Self::Arm, Self::Step, Self::Jump];

    /// As it is written on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Gear::Arm => "arm",
            Gear::Step => "step",
            Gear::Jump => "jump",
        }
    }

    /// What it does, in a line of help.
    pub fn about(self) -> &'static str {
        match self {
            Gear::Arm => "Run freely to each boundary and raise a real NMI there: the reference",
            Gear::Step => "One instruction at a time",
            Gear::Jump => "From a checkpoint at the boundary, with the NMI pending in the vCPU events",
        }
    }
}

impl fmt::Display for Gear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no gear.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown gear {0:?}; expected arm, step or jump")]
pub struct UnknownGear(String);

impl FromStr for Gear {
    type Err = UnknownGear;

    fn from_str(text: &str) -> Result<Self, UnknownGear> {
        Self::ALL.into_iter().find(|gear| gear.name() == text).ok_or_else(|| UnknownGear(text.to_owned()))
    }
}

/// Why a schedule could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine failed, or this KVM did.
    #[error(transparent)]
    Machine(#[from] Error),
    /// The run ended before an event's boundary came.
    #[error("{event} is never reached: {why}")]
    NeverReached {
        /// The event, as schedules write it.
        event: String,
        /// How often execution stood there, or where it stands instead.
        why: String,
    },
}

/// Watches a run, for traces.
pub trait Visitor {
    /// The run stands at a boundary; nothing has arrived there yet.
    fn boundary(&mut self, _: &Session) {}
    /// An event arrived at this boundary.
    fn arrived(&mut self, _: &Session, _: Kind) {}
    /// The latched NMI was delivered, or another event at the boundary where it arrived.
    fn delivered(&mut self, _: &Session, _: Kind) {}
}

impl Visitor for () {}

/// Runs `schedule` from *ready* to its verdict.
///
/// A free run looks at few boundaries, so a rule that it sees broken need not be the first:
/// what fails is judged again in the step gear, and that is the verdict. Where that passes, the
/// free run's stays: the gears disagree. What a free run cannot show, the step gear may.
pub fn run(
    session: &mut Session,
    schedule: &Schedule,
    gear: Gear,
    visitor: &mut dyn Visitor,
) -> Result<Verdict, RunError> {
    let verdict = match carry_out(session, schedule, gear, visitor) {
        // What breaks the contract may have broken a rule before.
        Err(RunError::Machine(broke @ Error::Contract(_))) if gear != Gear::Step => {
            let stepped = carry_out(session, schedule, Gear::Step, &mut ())?;
            return if stepped.is_failure() { Ok(stepped) } else { Err(broke.into()) };
        }
        end => end?,
    };
    if gear == Gear::Step || verdict.is_pass() {
        return Ok(verdict);
    }
    let stepped = carry_out(session, schedule, Gear::Step, &mut ())?;
    Ok(verdict.judged_again(stepped))
}

/// The same, and a free run that passes is stepped as well, for the rules that are broken
/// between its stops only, and for what the stops themselves hide: code that reads the bytes which
/// the lab puts there. What steps show is never a pass.
pub fn judge(
    session: &mut Session,
    schedule: &Schedule,
    gear: Gear,
    visitor: &mut dyn Visitor,
) -> Result<Verdict, RunError> {
    let verdict = run(session, schedule, gear, visitor)?;
    if gear == Gear::Step || !verdict.is_pass() {
        return Ok(verdict);
    }
    let stepped = carry_out(session, schedule, Gear::Step, &mut ())?;
    Ok(if stepped.is_failure() { stepped } else { verdict })
}

/// What several gears' verdicts on one schedule come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The step gear's, where it fails; a failure, where one does.
    pub verdict: Verdict,
    /// Gears that should have come to the same did not: a defect of ours.
    pub disagree: bool,
}

/// Settles what several gears came to. A free run that passes does not contradict a rule that
/// is broken between its stops. There is at least one verdict; nothing is settled by none.
pub fn settle(verdicts: &[(Gear, Verdict)]) -> Option<Settled> {
    let fails = |(_, verdict): &&(Gear, Verdict)| verdict.is_failure();
    let stepped = verdicts.iter().filter(|(gear, _)| *gear == Gear::Step).find(fails);
    let (_, verdict) = stepped.or_else(|| verdicts.iter().find(fails)).or(verdicts.first())?;
    let fits = |(gear, other): &(Gear, Verdict)| {
        other.kind() == verdict.kind() || *gear != Gear::Step && other.is_pass() && !verdict.shows_in_free_runs()
    };
    Some(Settled { verdict: verdict.clone(), disagree: !verdicts.iter().all(fits) })
}

fn carry_out(
    session: &mut Session,
    schedule: &Schedule,
    gear: Gear,
    visitor: &mut dyn Visitor,
) -> Result<Verdict, RunError> {
    session.reset();
    let mut course = Course::new(schedule);
    let mut raise = Raise::Ioctl;
    let mut rounds = Rounds::default();
    let mut laps = Laps::default();
    // Where something is still to arrive, and moves since something did.
    let (mut waiting, mut legs) = (course.to_come(), 0);
    loop {
        if stop::requested() {
            return Err(Error::Interrupted.into());
        }
        visitor.boundary(session);
        let now = course.stand(session.machine().rip());
        if !now.is_empty() {
            if gear == Gear::Jump && raise == Raise::Ioctl {
                // From here on everything starts from a state that was put there.
                let here = session.saved();
                session.reset();
                session.restore(&here);
                raise = Raise::Events;
            }
            (legs, waiting) = (0, course.to_come());
            rounds.begin_anew();
            laps = Laps::default();
        }
        let moved = session.events(&now, &mut |session, seen| match seen {
            Seen::Arrived(kind) => visitor.arrived(session, kind),
            Seen::Delivered(kind) => visitor.delivered(session, kind),
        })?;
        if !moved && waiting.contains(&session.machine().rip()) {
            rounds.awaits();
            let (visits, next) = course.laps();
            laps.pass(session, visits, next);
        }
        if moved {
            // The handler's first instruction is a boundary, too.
        } else if session.deliverable() {
            session.deliver(raise)?;
            visitor.delivered(session, Kind::Nmi);
        } else {
            let shadowed = session.machine().pending() && session.machine().in_shadow();
            session.advance(if gear == Gear::Step || shadowed { Advance::Step } else { Advance::To(&waiting) })?;
        }
        legs += 1;
        match gear {
            Gear::Step => session.watch_rounds(&mut rounds)?,
            // A place that never comes the n-th time.
            Gear::Arm | Gear::Jump if legs > session.most_steps() => session.give_up(),
            Gear::Arm | Gear::Jump => {}
        }
        if let Some(verdict) = session.take_verdict() {
            let Some((event, n)) = course.missed().filter(|_| verdict.is_pass()) else { return Ok(verdict) };
            let names = session.rules().names();
            return Err(RunError::NeverReached {
                event: Schedule(vec![event]).show(names),
                why: visits(n, names, event.at.addr),
            });
        }
    }
}

fn visits(n: u32, names: Names, addr: u64) -> String {
    let times = if n == 1 { "once".to_owned() } else { format!("{n} times") };
    let place = names.show(addr);
    match n {
        0 => format!("execution never stands at {place} in this run (see `vmm list boundaries`)"),
        _ => format!("execution stands at {place} only {times} in this run"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Invariant;

    #[test]
    fn the_first_rule_that_is_broken_settles_it_and_a_contradiction_stays_one() {
        let broke = |invariant| Verdict::breaks(invariant, "so");
        let (stack, context) = (broke(Invariant::Stack), broke(Invariant::Context));
        let of = |arm: &Verdict, step: &Verdict| {
            let settled = settle(&[(Gear::Arm, arm.clone()), (Gear::Step, step.clone())]);
            settled.map(|s| (s.verdict, s.disagree))
        };
        assert_eq!(of(&Verdict::Pass, &Verdict::Pass), Some((Verdict::Pass, false)));
        assert_eq!(of(&Verdict::Pass, &stack), Some((stack.clone(), false)), "a free run cannot see RSP");
        assert_eq!(of(&Verdict::Pass, &context), Some((context.clone(), true)));
        assert_eq!(of(&context, &Verdict::Pass), Some((context.clone(), true)), "never a pass");
        assert_eq!(of(&context, &stack), Some((stack.clone(), true)));
        assert_eq!(settle(&[]), None);
    }
}
