//! One run of a schedule, recorded, and a session that can be put at any of its moves.

use std::collections::VecDeque;
use std::fmt::Write;

use super::Error;
use super::access::{Witness, physical};
use super::event::{Before, arrival};
use super::run::{Log, Run};
use crate::cpu::Lazy;
use crate::image::vectors::{has_error_code, vector_name};
use crate::inject::{Course, Event as Arrival, Kind, Replay, Rounds, Saved, Schedule, Session};
use crate::kvm::VcpuState;
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

/// A run of the lab's guest, from *ready* to its verdict.
pub struct Recording {
    session: Session,
    /// What is run, but for the schedule.
    line: Replay,
    schedule: Schedule,
    log: Log,
    checkpoints: Vec<Checkpoint>,
    every: usize,
    course: Course,
    /// What is still to arrive at this boundary, after an event that is delivered where it arrives:
    /// that delivery is a move of its own.
    due: VecDeque<Kind>,
    verdict: Verdict,
    /// Why the verdict is not that of the schedule: an event never came.
    missed: Option<String>,
}

impl Recording {
    /// Runs `schedule` to its end, and goes back to *ready*.
    pub fn new(session: Session, schedule: Schedule, line: Replay) -> Result<Self, Error> {
        let course = Course::new(&schedule);
        let mut new = Self {
            session,
            line,
            schedule,
            log: Log::default(),
            checkpoints: Vec::new(),
            every: EVERY,
            course,
            due: VecDeque::new(),
            verdict: Verdict::Pass,
            missed: None,
        };
        new.session.reset();
        new.log.places.push(new.session.machine().rip());
        new.keep();
        new.arrivals()?;
        new.record()?;
        new.go(0)?;
        Ok(new)
    }

    fn machine(&self) -> &Machine {
        self.session.machine()
    }

    /// Keeps the state at hand, in which nothing has arrived at this boundary yet. A pending NMI
    /// may be one that is late, which a saved state does not tell: there is no checkpoint then.
    fn keep(&mut self) {
        if self.session.machine().pending() || !self.due.is_empty() {
            return;
        }
        let (saved, hash) = (self.session.saved(), self.session.state_hash());
        self.checkpoints.push(Checkpoint { at: self.log.end(), saved, hash });
        if self.checkpoints.len() > MOST {
            self.every *= 2;
            let mut even = false;
            self.checkpoints.retain(|_| {
                even = !even;
                even
            });
        }
    }

    /// Lets arrive what arrives at this boundary, up to what is delivered there.
    fn arrivals(&mut self) -> Result<Vec<String>, Error> {
        self.due.extend(self.course.stand(self.session.machine().rip()));
        let mut told = Vec::new();
        while let Some(kind) = self.due.front().copied() {
            told.push(arrival(&self.session, kind));
            if kind.vector().is_some() {
                break;
            }
            self.due.pop_front();
            self.session.event(kind)?;
        }
        Ok(told)
    }

    /// Makes one move. Returns what was delivered, unless it was an instruction.
    fn advance(&mut self) -> Result<Option<Kind>, Error> {
        if let Some(kind) = self.due.pop_front() {
            self.session.event(kind)?;
            return Ok(Some(kind));
        }
        let delivers = self.session.deliverable();
        self.session.step(Raise::Ioctl)?;
        Ok(delivers.then_some(Kind::Nmi))
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
            let by = self.log.end();
            let before = Before::of(&self.session);
            let ahead = witness.ahead(self.session.machine());
            let delivered = self.advance()?;
            let is_instruction = delivered.is_none();
            self.session.watch_rounds(&mut rounds)?;
            let m = self.session.machine();
            self.log.places.push(m.rip());
            let raised = self.raised(is_instruction, &before);
            let m = self.session.machine();
            match raised {
                // The instruction did not complete.
                Some(_) => witness.moved(m, by, None, &mut self.log.accesses),
                None => witness.moved(m, by, Some(ahead).filter(|_| is_instruction), &mut self.log.accesses),
            }
            if raised.is_some() || !is_instruction {
                let words = 5 + u64::from(raised.is_some_and(has_error_code));
                witness.pushed(m, by, m.state().regs.rsp, words, &mut self.log.accesses);
            }
            let told = match delivered {
                None => before.instruction(&self.session, raised),
                Some(kind) => vec![before.delivery(&self.session, kind)],
            };
            self.log.tell(by + 1, told);
            if let Some(verdict) = self.session.take_verdict() {
                break verdict;
            }
            if (by + 1).is_multiple_of(self.every) {
                self.keep();
            }
            let told = self.arrivals()?;
            if !told.is_empty() {
                rounds.begin_anew();
                waiting = self.course.to_come();
            }
            self.log.tell(by + 1, told);
        };
        self.log.now = self.log.end();
        self.log.tell(self.log.now, [format!("the run ends: {verdict}")]);
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
}

impl Run for Recording {
    fn log(&self) -> &Log {
        &self.log
    }

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn missed(&self) -> Option<&str> {
        self.missed.as_deref()
    }

    /// By the checkpoint before it where it is not ahead.
    fn go(&mut self, to: usize) -> Result<(), Error> {
        let to = to.min(self.log.end());
        let i = self.checkpoints.partition_point(|c| c.at <= to);
        let nearest = &self.checkpoints[i.saturating_sub(1)];
        // From the end nothing goes on; its verdict was taken.
        if to < self.log.now || nearest.at > self.log.now {
            self.session.restore(&nearest.saved);
            self.due.clear();
            self.log.now = nearest.at;
            self.course = Course::new(&self.schedule);
            for place in &self.log.places[..self.log.now] {
                self.course.stand(*place);
            }
            self.arrivals()?;
        }
        while self.log.now < to {
            self.advance()?;
            self.log.now += 1;
            let now = self.log.now;
            let rip = self.session.machine().rip();
            let kept = self.checkpoints.binary_search_by_key(&now, |c| c.at).ok();
            let same = kept.is_none_or(|i| self.checkpoints[i].hash == self.session.state_hash());
            if rip != self.log.places[now] || !same {
                let (was, is) = (self.show(self.log.places[now]), self.show(rip));
                return Err(Error::Diverged { after: now, was, is });
            }
            if now != self.log.end() {
                self.arrivals()?;
            }
        }
        Ok(())
    }

    fn inject(&mut self, kind: Kind) -> Result<Option<String>, Error> {
        let now = self.log.now;
        if now == self.log.end() {
            return Ok(None);
        }
        self.schedule.0.push(Arrival { kind, at: self.log.boundary() });
        self.log.forget();
        self.checkpoints.truncate(self.checkpoints.partition_point(|c| c.at <= now));
        self.course = Course::new(&self.schedule);
        for place in &self.log.places {
            self.course.stand(*place);
        }
        let told = arrival(&self.session, kind);
        match kind.vector() {
            Some(_) => self.due.push_back(kind),
            None => self.session.event(kind)?,
        }
        self.log.tell(now, [told.clone()]);
        self.record()?;
        self.go(now)?;
        Ok(Some(told))
    }

    fn vcpu(&self) -> &VcpuState {
        self.machine().state()
    }

    fn lazy(&self) -> Result<Lazy, Error> {
        Ok((*self.machine().state().lazy.state()).clone())
    }

    fn read(&self, addr: u64, out: &mut [u8]) -> bool {
        self.machine().memory().read(self.vcpu().sregs.cr3, addr, out)
    }

    fn physical(&self, addr: u64, len: u64) -> Vec<(u64, u32)> {
        physical(self.machine(), addr, len)
    }

    fn show(&self, addr: u64) -> String {
        self.session.rules().names().show(addr)
    }

    fn nmis(&self) -> String {
        let (m, ghost) = (self.machine(), &self.session.oracle().ghost);
        let yes = |on: bool| if on { "yes" } else { "no" };
        let mut out = format!("P, an NMI is pending: {}\n", yes(m.pending()));
        let _ = writeln!(out, "in a one-instruction shadow: {}", yes(m.in_shadow()));
        let _ = writeln!(out, "depth, NMIs delivered and not returned from: {}", ghost.frames.nmis());
        let _ = writeln!(out, "bodies under way: {}", ghost.bodies);
        let _ = writeln!(out, "owed, an NMI arrived that no body has answered yet: {}", yes(ghost.owed));
        for frame in ghost.frames.live() {
            let (w, what) = (&frame.words, vector_name(frame.vector));
            let (rip, rsp) = (self.show(w.rip), w.rsp);
            let _ = writeln!(out, "live frame of {what} at {:#x}: back to {rip}, RSP {rsp:#x}", frame.addr);
        }
        out
    }

    fn again(&self) -> String {
        let schedule = self.schedule.show(self.session.rules().names());
        format!("vmm replay '{}'", Replay { schedule, ..self.line.clone() })
    }

    fn file(&self) -> Vec<u8> {
        self.machine().guest().image.for_debugger()
    }
}
