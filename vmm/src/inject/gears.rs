//! Carries out one schedule, in any gear.

use std::fmt;
use std::str::FromStr;

use super::event::Kind;
use super::schedule::Schedule;
use super::session::{Advance, Session};
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
    /// The latched NMI was delivered.
    fn delivered(&mut self, _: &Session) {}
}

impl Visitor for () {}

/// Runs `schedule` from *ready* to its verdict.
pub fn run(
    session: &mut Session,
    schedule: &Schedule,
    gear: Gear,
    visitor: &mut dyn Visitor,
) -> Result<Verdict, RunError> {
    session.reset();
    let mut watch: Vec<u64> = schedule.0.iter().map(|e| e.at.addr).collect();
    watch.sort_unstable();
    watch.dedup();
    let mut counts = vec![0u32; watch.len()];
    let mut fired = vec![false; schedule.0.len()];
    let mut raise = Raise::Ioctl;
    loop {
        visitor.boundary(session);
        if let Ok(i) = watch.binary_search(&session.machine().rip()) {
            counts[i] += 1;
            for (event, fired) in schedule.0.iter().zip(&mut fired) {
                if event.at.addr != watch[i] || event.at.n != counts[i] {
                    continue;
                }
                if gear == Gear::Jump && raise == Raise::Ioctl {
                    // From here on everything starts from a state that was put there.
                    let here = session.saved();
                    session.reset();
                    session.restore(&here);
                    raise = Raise::Events;
                }
                event.kind.happens(session);
                *fired = true;
                visitor.arrived(session, event.kind);
            }
        }
        if session.deliverable() {
            session.deliver(raise)?;
            visitor.delivered(session);
        } else {
            let shadowed = session.machine().pending() && session.machine().in_shadow();
            session.advance(if gear == Gear::Step || shadowed { Advance::Step } else { Advance::To(&watch) })?;
        }
        if let Some(verdict) = session.take_verdict() {
            let unreached = fired.iter().position(|f| !f).filter(|_| verdict.is_pass());
            let Some(i) = unreached else { return Ok(verdict) };
            let at = schedule.0[i].at;
            let n = watch.binary_search(&at.addr).map_or(0, |w| counts[w]);
            let names = session.rules().names();
            return Err(RunError::NeverReached {
                event: Schedule(vec![schedule.0[i]]).show(names),
                why: visits(n, names, at.addr),
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
