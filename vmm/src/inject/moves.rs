//! How a session moves: a delivery, an instruction, a free run; and what the oracle is
//! told of each.

use guest::abi;

use super::session::Session;
use crate::image::{Flow, Mode};
use crate::machine::pv::Outcome;
use crate::machine::{Error, Raise, Stop};
use crate::oracle::{Context, Verdict};

/// Free runs after which a case that has not ended is looked at closely: one that goes
/// round through the oracle's stops is never interrupted.
const MOST_LEGS: u64 = 1_000;

/// How far to move.
#[derive(Clone, Copy)]
pub enum Advance<'a> {
    /// By one instruction.
    Step,
    /// Freely, to the next of these addresses, or to where the oracle must look.
    To(&'a [u64]),
}

impl Session {
    /// Whether the latched NMI, if any, is delivered before the next instruction.
    pub fn deliverable(&self) -> bool {
        self.machine.pending() && !self.machine.blocked() && !self.machine.in_shadow()
    }

    /// Delivers the latched NMI.
    pub fn deliver(&mut self, raise: Raise) -> Result<(), Error> {
        self.machine.settle_in();
        if std::mem::take(&mut self.late) {
            let iret = self.return_ahead();
            let stop = self.machine.step_in_nmi_window()?;
            if self.observe(&stop, iret).is_some() || !self.deliverable() {
                return Ok(());
            }
        }
        let before = Context::of(self.machine.state());
        let stop = self.machine.deliver(raise)?;
        match stop {
            Stop::Boundary if self.machine.idt().vector_of(self.machine.rip()).is_none_or(|v| v == 2) => {
                self.oracle.delivered(&self.machine, &before);
                self.oracle.boundary(&self.machine);
            }
            Stop::Lost => self.oracle.ghost.pending = false, // I3 is judged at the end
            // The delivery itself faulted (its stack is not mapped, …).
            other => {
                self.oracle.ghost.delivered();
                self.observe(&other, None);
            }
        }
        Ok(())
    }

    /// Delivers an event from outside that is no NMI, at this boundary.
    pub(super) fn deliver_external(&mut self, vector: u8) -> Result<(), Error> {
        self.machine.settle_in();
        let before = Context::of(self.machine.state());
        let stop = self.machine.deliver_external(vector)?;
        match stop {
            Stop::Boundary if self.machine.idt().vector_of(self.machine.rip()) == Some(vector) => {
                self.oracle.external(&self.machine, &before, vector);
                self.oracle.boundary(&self.machine);
            }
            // The delivery itself faulted, or there is no handler.
            other => {
                self.observe(&other, None);
            }
        }
        Ok(())
    }

    /// Times an NMI at this boundary, in a free run that nothing watches. The session
    /// must be restored afterwards.
    pub fn time_nmi(&mut self) -> Result<Option<std::time::Duration>, Error> {
        self.machine.time_nmi()
    }

    /// Moves on. Afterwards the machine stands at another boundary, or the run has a
    /// verdict.
    pub fn advance(&mut self, how: Advance) -> Result<(), Error> {
        self.machine.settle_in();
        let iret = self.return_ahead();
        let stop = match how {
            Advance::To(places) if iret.is_none() => {
                self.advances += 1;
                self.stops.clear();
                self.stops.extend_from_slice(places);
                // With an NMI live, every return and every fault is looked at; without
                // one, only the traps that I16 compares.
                let ghost = &self.oracle.ghost;
                let live = ghost.outer.is_some() || ghost.in_external() || self.machine.pending();
                let idt = self.machine.idt();
                if live {
                    self.stops.extend_from_slice(&self.live_stops);
                    self.stops.extend(idt.handlers());
                    self.stops.extend(ghost.frames.external().map(|frame| frame.words.rip));
                } else {
                    self.stops.extend([1, 13].into_iter().filter_map(|v| idt.handler(v)));
                }
                self.stops.extend(self.suspects.iter().filter(|at| **at != self.machine.rip()));
                let stop = self.machine.leg(&self.stops)?;
                let at = self.machine.rip();
                if stop == Stop::Boundary && self.suspects.contains(&at) && !places.contains(&at) {
                    self.observe(&stop, iret);
                    return self.hunt_briefly(places);
                }
                stop
            }
            _ => self.machine.step()?,
        };
        let places = match how {
            Advance::To(places) => places,
            Advance::Step => &[],
        };
        if stop == Stop::Interrupted {
            return self.hunt(places);
        }
        if self.advances > MOST_LEGS && !places.contains(&self.machine.rip()) {
            self.observe(&stop, iret);
            return self.hunt(places);
        }
        self.observe(&stop, iret);
        Ok(())
    }

    /// Where the next instruction is an iretq: its address, the frame's and the frame.
    pub(super) fn return_ahead(&self) -> Option<(u64, u64, abi::Frame)> {
        let rip = self.machine.rip();
        let d = self.machine.next_instruction()?;
        if d.flow != Flow::Iret {
            return None;
        }
        let state = self.machine.state();
        let [r, c, f, s, ss] = self.machine.memory().words(state.sregs.cr3, state.regs.rsp)?;
        Some((rip, state.regs.rsp, abi::Frame { rip: r, cs: c & 0xffff, rflags: f, rsp: s, ss: ss & 0xffff }))
    }

    /// Tells the oracle what happened. Returns the verdict where there is one.
    pub(super) fn observe(&mut self, stop: &Stop, iret: Option<(u64, u64, abi::Frame)>) -> Option<&Verdict> {
        let (m, o) = (&self.machine, &mut self.oracle);
        let native = m.mode() == Mode::Native; // in pv an iretq leaves the VMM's mask alone
        // A return may lead to a handler's first instruction, where an NMI interrupted.
        let landed =
            iret.is_some_and(|(_, _, f)| f.rip == m.rip() && f.rsp == m.state().regs.rsp) || o.external_goes_on(m);
        match stop {
            Stop::Boundary => match m.idt().vector_of(m.rip()).filter(|v| *v != 2 && !landed) {
                Some(vector) => o.faulted(m, vector, iret.is_some() && native),
                None => {
                    if let Some((from, addr, words)) = iret {
                        o.returned(m, addr, &words, native, from);
                    }
                }
            },
            Stop::Hypercall(abi::PORT_BODY_BEGIN) => o.body_begins(m),
            Stop::Hypercall(abi::PORT_BODY_END) => o.body_ends(),
            Stop::Hypercall(abi::PORT_SCENARIO_END) => o.scenario_ends(m),
            Stop::Hypercall(abi::PORT_PANIC) => o.panicked(m),
            Stop::Hypercall(port) => o.called(*port),
            Stop::Pv(Outcome::Returned) => {}
            Stop::Pv(Outcome::Resumed { frame, context_at, from, unmasked }) => {
                o.returned(m, *context_at, frame, *unmasked, *from);
            }
            Stop::Pv(Outcome::Refused(_)) => {} // the machine has gone on to the fault
            Stop::Pv(Outcome::Crashed(why)) => o.shut_down(why),
            Stop::Undeclared(vector) => o.undeclared(m, *vector),
            Stop::Halt => o.halted(m),
            Stop::Shutdown => o.shut_down("triple fault"),
            Stop::Failed(why) => o.limited(why),
            Stop::Interrupted | Stop::Lost => {}
        }
        if o.verdict().is_none() {
            o.boundary(m);
        }
        self.oracle.verdict()
    }
}
