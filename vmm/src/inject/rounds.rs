//! Runs that do not end: whether one goes round for ever, and where (I17).
//!
//! A stepped run is compared with one earlier state of its own, which is replaced after 1, 2,
//! 4, … instructions (Brent's way to find a cycle): an exact repetition is found in time
//! proportional to its length, with one state remembered. A run that never repeats itself, as
//! with a counter that only grows, ends by a limit in instructions.

use super::session::Session;
use super::stop;
use crate::machine::{Error, Raise};
use crate::oracle::{Context, goes_round, out_of_steps};

/// Most instructions of a golden run.
pub const GOLDEN_STEPS: u64 = 200_000;
/// Instructions that a run may take longer than the golden run, from the last arrival on.
pub const LONGER_STEPS: u64 = 50_000;

/// Instructions of a stepped run before it is looked at at all: nearly all runs end before.
const BEFORE: u64 = 256;
/// Instructions of a brief look: enough for a round of half [`BEFORE`] at least.
const BRIEFLY: u64 = 2 * BEFORE;
/// Visits to a place where something is awaited before states are compared.
const BEFORE_LAPS: u32 = 16;
/// Places that are remembered, where runs went round for ever.
const MOST_SUSPECTS: usize = 4;
/// Every so many instructions it is asked whether the user wants an end.
const ASK_EVERY: u64 = 1024;

/// Watches one stepped run for a repetition of its state.
#[derive(Default)]
pub struct Rounds {
    /// An earlier state: its registers, and a hash of all of it.
    anchor: Option<(Context, u128)>,
    /// Instructions since then.
    lap: u64,
    /// Instructions in all.
    steps: u64,
}

impl Rounds {
    /// The run stands at its next boundary. The length of its round in instructions, where
    /// this very state was there before. Only where the registers are the same is all the
    /// rest looked at.
    pub fn repeats(&mut self, session: &Session) -> Option<u64> {
        self.steps += 1;
        self.lap += 1;
        if let Some((registers, hash)) = &self.anchor
            && registers.rip() == session.machine().rip()
            && *registers == Context::of(session.machine().state())
            && *hash == session.state_hash()
        {
            return Some(self.lap);
        }
        if self.steps >= BEFORE && self.steps.is_power_of_two() {
            self.anchor = Some((Context::of(session.machine().state()), session.state_hash()));
            self.lap = 0;
        }
        None
    }

    /// Something has arrived: what was before is no matter.
    pub fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// Something is to arrive here at a later visit: to come here again is no round.
    pub fn awaits(&mut self) {
        self.anchor = None;
    }

    /// Whether the run has come to the limit of a golden run.
    pub fn golden_limit(&self) -> bool {
        self.steps >= GOLDEN_STEPS
    }
}

/// Watches a run that comes again and again to a place where something is to arrive at a later
/// visit. Where its whole state is the same as at an earlier visit, it goes round until then, and
/// whole rounds are counted instead of executed.
#[derive(Default)]
pub struct Laps {
    visits: u32,
    /// At an earlier visit: its number, a hash of the state, and the visits to each place.
    anchor: Option<(u128, Vec<u32>)>,
}

impl Laps {
    /// The run stands at such a place. `counts` are the visits to each; `next` gives the number of
    /// the next visit to the i-th at which something arrives.
    pub fn pass(&mut self, session: &Session, counts: &mut [u32], next: impl Fn(usize, u32) -> Option<u32>) {
        self.visits = self.visits.saturating_add(1);
        if self.visits < BEFORE_LAPS {
            return;
        }
        let hash = session.state_hash();
        if let Some((_, then)) = self.anchor.as_ref().filter(|(at_anchor, _)| *at_anchor == hash) {
            // Rounds after which nothing has arrived yet, at any place.
            let whole = |(i, (now, then)): (usize, (&u32, &u32))| {
                let (each, to_go) = (now - then, next(i, *now)? - *now);
                (to_go - 1).checked_div(each)
            };
            let rounds = counts.iter().zip(then).enumerate().filter_map(whole).min().unwrap_or(0);
            for (now, then) in counts.iter_mut().zip(then) {
                *now += rounds * (*now - then);
            }
        }
        if self.visits.is_power_of_two() {
            self.anchor = Some((hash, counts.to_vec()));
        }
    }
}

impl Session {
    /// The run, in which nothing more arrives, stands at its next boundary. Where it goes
    /// round for ever, or does not end, that becomes its verdict.
    pub fn watch_rounds(&mut self, rounds: &mut Rounds) -> Result<(), Error> {
        if self.oracle.verdict().is_some() {
            return Ok(());
        }
        if let Some(length) = rounds.repeats(self) {
            return self.livelock(length);
        }
        if rounds.steps >= self.most_steps() {
            self.give_up();
        }
        if rounds.steps.is_multiple_of(ASK_EVERY) && stop::requested() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Instructions that a run may take from its last arrival on.
    pub(super) fn most_steps(&self) -> u64 {
        self.rules().golden.visits.len() as u64 + LONGER_STEPS
    }

    /// The run has come to that limit.
    pub(super) fn give_up(&mut self) {
        let verdict = out_of_steps(self.most_steps());
        self.oracle.conclude(verdict);
    }

    /// Steps a free run that does not end until that is known, or it ends after all. Where the
    /// watchdog interrupted it, the host may merely be slow: it may also come to one of the
    /// places where it was to stop.
    pub(super) fn hunt(&mut self, places: &[u64]) -> Result<(), Error> {
        let mut rounds = Rounds::default();
        while self.oracle.verdict().is_none() {
            self.step(Raise::Ioctl)?;
            if places.contains(&self.machine.rip()) {
                return Ok(());
            }
            self.watch_rounds(&mut rounds)?;
        }
        Ok(())
    }

    /// The same where an earlier run went round for ever: a short round is found at once, and
    /// whatever else it is goes on freely.
    pub(super) fn hunt_briefly(&mut self, places: &[u64]) -> Result<(), Error> {
        let mut rounds = Rounds::default();
        for _ in 0..BRIEFLY {
            if self.oracle.verdict().is_some() {
                break;
            }
            self.step(Raise::Ioctl)?;
            if places.contains(&self.machine.rip()) {
                break;
            }
            self.watch_rounds(&mut rounds)?;
        }
        Ok(())
    }

    /// Goes on by one move: the delivery of a latched NMI, or an instruction.
    pub fn step(&mut self, raise: Raise) -> Result<(), Error> {
        if self.deliverable() {
            return self.deliver(raise);
        }
        self.machine.settle_in();
        let iret = self.return_ahead();
        let stop = self.machine.step()?;
        self.observe(&stop, iret);
        Ok(())
    }

    /// Goes round a livelock once more, to say where it is.
    fn livelock(&mut self, length: u64) -> Result<(), Error> {
        let mut lowest = self.machine.rip();
        for _ in 0..length {
            self.step(Raise::Ioctl)?;
            lowest = lowest.min(self.machine.rip());
        }
        if self.suspects.len() < MOST_SUSPECTS && !self.suspects.contains(&lowest) {
            self.suspects.push(lowest);
        }
        let verdict = goes_round(length, &self.rules().names().show(lowest));
        self.oracle.conclude(verdict);
        Ok(())
    }

    /// A hash of everything that the run's future depends on: machine and ghost.
    pub fn state_hash(&self) -> u128 {
        use std::hash::{Hash, Hasher};
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        Context::of(self.machine.state()).hash(&mut h);
        self.oracle.ghost.hash(&mut h);
        (self.machine.blocked(), self.machine.pending(), self.machine.in_shadow(), self.machine.pv()).hash(&mut h);
        self.machine.state().events.exception.to_come().hash(&mut h);
        let ram = self.machine.memory().0;
        for page in self.machine.pages() {
            h.write(&ram[*page as usize..*page as usize + 4096]);
        }
        h.digest128()
    }
}
