//! One run of a schedule, recorded, and a session that can be put at any of its moves.

use super::Error;
use super::access::{Access, Witness};
use super::event::{Before, Event, arrival};
use crate::image::vectors::has_error_code;
use crate::inject::{At, Course, Event as Arrival, Kind, Rounds, Saved, Schedule, Session};
use crate::machine::{Machine, Raise};
use crate::oracle::Verdict;

/// Moves from one checkpoint to the next; when there are many, they are thinned.
const EVERY: usize = 512;
/// Most checkpoints that are kept.
const MOST: usize = 256;

/// A state to come back to.
struct Checkpoint {
    /// Moves since *ready*.
    at: usize,
    /// The state before anything arrives at this boundary, and its hash.
    saved: Saved,
    hash: u128,
}

/// A run from *ready* to its verdict. A *move* is one instruction, or the delivery of an NMI; a
/// *moment* is the boundary after so many moves, with all that arrives there arrived.
pub struct Recording {
    session: Session,
    schedule: Schedule,
    /// RIP at each moment.
    places: Vec<u64>,
    /// What was accessed, by ascending move.
    accesses: Vec<Access>,
    /// What happened, by ascending moment.
    events: Vec<Event>,
    checkpoints: Vec<Checkpoint>,
    every: usize,
    now: usize,
    course: Course,
    verdict: Verdict,
    /// Why the verdict is not that of the schedule: an event never came.
    missed: Option<String>,
}

impl Recording {
    /// Runs `schedule` to its end, and goes back to *ready*.
    pub fn new(session: Session, schedule: Schedule) -> Result<Self, Error> {
        let course = Course::new(&schedule);
        let mut new = Self {
            session,
            schedule,
            places: Vec::new(),
            accesses: Vec::new(),
            events: Vec::new(),
            checkpoints: Vec::new(),
            every: EVERY,
            now: 0,
            course,
            verdict: Verdict::Pass,
            missed: None,
        };
        new.session.reset();
        new.places.push(new.session.machine().rip());
        new.keep();
        new.arrivals();
        new.record()?;
        new.go(0)?;
        Ok(new)
    }

    /// The session, which stands at the present moment.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        self.session.machine()
    }

    /// Moves since *ready*.
    pub fn now(&self) -> usize {
        self.now
    }

    /// The last moment: that of the verdict.
    pub fn end(&self) -> usize {
        self.places.len() - 1
    }

    /// RIP at each moment.
    pub(super) fn places(&self) -> &[u64] {
        &self.places
    }

    /// What each move accessed, by ascending move.
    pub(super) fn accesses(&self) -> &[Access] {
        &self.accesses
    }

    /// What happened, by ascending moment.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What the run comes to.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The event of the schedule that the run ended without, in words.
    pub fn missed(&self) -> Option<&str> {
        self.missed.as_deref()
    }

    /// What arrives, with what was added to it.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The present boundary, as schedules name it.
    pub fn boundary(&self) -> At {
        let addr = self.places[self.now];
        At { addr, n: self.places[..=self.now].iter().filter(|at| **at == addr).count() as u32 }
    }

    /// Keeps the state at hand, in which nothing has arrived at this boundary yet. A pending NMI
    /// may be one that is late, which a saved state does not tell: there is no checkpoint then.
    fn keep(&mut self) {
        if self.session.machine().pending() {
            return;
        }
        let (saved, hash) = (self.session.saved(), self.session.state_hash());
        self.checkpoints.push(Checkpoint { at: self.places.len() - 1, saved, hash });
        if self.checkpoints.len() > MOST {
            self.every *= 2;
            let mut even = false;
            self.checkpoints.retain(|_| {
                even = !even;
                even
            });
        }
    }

    /// Lets arrive what arrives at this boundary.
    fn arrivals(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for kind in self.course.stand(self.session.machine().rip()) {
            told.push(arrival(&self.session, kind));
            self.session.event(kind);
        }
        told
    }

    fn tell(&mut self, after: usize, texts: impl IntoIterator<Item = String>) {
        self.events.extend(texts.into_iter().map(|text| Event { after, text }));
    }

    /// Makes one move. Returns whether it was an instruction.
    fn advance(&mut self) -> Result<bool, Error> {
        let delivers = self.session.deliverable();
        self.session.step(Raise::Ioctl)?;
        Ok(!delivers)
    }

    /// Goes on from the last moment that is recorded to the verdict.
    fn record(&mut self) -> Result<(), Error> {
        let mut witness = Witness::new(self.session.machine());
        let mut rounds = Rounds::default();
        let mut waiting = self.course.to_come();
        let verdict = loop {
            if waiting.contains(&self.session.machine().rip()) {
                rounds.awaits();
            }
            let by = self.places.len() - 1;
            let before = Before::of(&self.session);
            let ahead = witness.ahead(self.session.machine());
            let is_instruction = self.advance()?;
            self.session.watch_rounds(&mut rounds)?;
            let m = self.session.machine();
            self.places.push(m.rip());
            let raised = self.raised(is_instruction, &before);
            let m = self.session.machine();
            match raised {
                // The instruction did not complete.
                Some(_) => witness.moved(m, by, None, &mut self.accesses),
                None => witness.moved(m, by, Some(ahead).filter(|_| is_instruction), &mut self.accesses),
            }
            if raised.is_some() || !is_instruction {
                let words = 5 + u64::from(raised.is_some_and(has_error_code));
                witness.pushed(m, by, m.state().regs.rsp, words, &mut self.accesses);
            }
            let told = match is_instruction {
                true => before.instruction(&self.session, raised),
                false => vec![before.delivery(&self.session)],
            };
            self.tell(by + 1, told);
            if let Some(verdict) = self.session.take_verdict() {
                break verdict;
            }
            if (by + 1).is_multiple_of(self.every) {
                self.keep();
            }
            let told = self.arrivals();
            if !told.is_empty() {
                rounds.begin_anew();
                waiting = self.course.to_come();
            }
            self.tell(by + 1, told);
        };
        self.now = self.end();
        self.tell(self.now, [format!("the run ends: {verdict}")]);
        let missed = self.course.missed().filter(|_| verdict.is_pass());
        let names = self.session.rules().names();
        self.missed =
            missed.map(|(event, n)| format!("{} never arrived: {n} visits", Schedule(vec![event]).show(names)));
        self.verdict = verdict;
        Ok(())
    }

    /// The exception that the last move raised.
    fn raised(&self, is_instruction: bool, before: &Before) -> Option<u8> {
        let m = self.session.machine();
        let vector = m.idt().vector_of(m.rip()).filter(|v| *v != 2)?;
        (is_instruction && !before.returned_to(&self.session)).then_some(vector)
    }

    /// Puts the session at a moment, by the checkpoint before it where it is not ahead.
    pub fn go(&mut self, to: usize) -> Result<(), Error> {
        let to = to.min(self.end());
        let i = self.checkpoints.partition_point(|c| c.at <= to);
        let nearest = &self.checkpoints[i.saturating_sub(1)];
        // From the end nothing goes on; its verdict was taken.
        if to < self.now || nearest.at > self.now {
            self.session.restore(&nearest.saved);
            self.now = nearest.at;
            self.course = Course::new(&self.schedule);
            for place in &self.places[..self.now] {
                self.course.stand(*place);
            }
            self.arrivals();
        }
        while self.now < to {
            self.advance()?;
            self.now += 1;
            let last = self.now == self.end();
            let rip = self.session.machine().rip();
            let kept = self.checkpoints.binary_search_by_key(&self.now, |c| c.at).ok();
            let same = kept.is_none_or(|i| self.checkpoints[i].hash == self.session.state_hash());
            if rip != self.places[self.now] || !same {
                let names = self.session.rules().names();
                let (was, is) = (names.show(self.places[self.now]), names.show(rip));
                return Err(Error::Diverged { after: self.now, was, is });
            }
            if !last {
                self.arrivals();
            }
        }
        Ok(())
    }

    /// Something arrives at the present boundary, too. What comes after it is recorded anew.
    /// Returns what it does there, in words; `None` where the run has ended, and nothing can
    /// arrive.
    pub fn inject(&mut self, kind: Kind) -> Result<Option<String>, Error> {
        let now = self.now;
        if now == self.end() {
            return Ok(None);
        }
        self.schedule.0.push(Arrival { kind, at: self.boundary() });
        self.places.truncate(now + 1);
        self.accesses.truncate(self.accesses.partition_point(|a| a.by < now));
        self.events.truncate(self.events.partition_point(|e| e.after <= now));
        self.checkpoints.truncate(self.checkpoints.partition_point(|c| c.at <= now));
        self.course = Course::new(&self.schedule);
        for place in &self.places[..=now] {
            self.course.stand(*place);
        }
        let told = arrival(&self.session, kind);
        self.session.event(kind);
        self.tell(now, [told.clone()]);
        self.record()?;
        self.go(now)?;
        Ok(Some(told))
    }
}
