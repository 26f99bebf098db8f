//! One machine and its oracle, moving together from boundary to boundary. All gears
//! and the explorer are built on this.

use std::sync::Arc;

use guest::abi;

use super::event::Kind;
use crate::cpu::Traced;
use crate::image::declare::{Scenario, Scheme};
use crate::image::{Flow, Guest, Mode};
use crate::kvm::Host;
use crate::machine::pv::Outcome;
use crate::machine::{Checkpoint, Engine, Error, Knobs, Machine, Raise, Stop};
use crate::oracle::{Context, Ghost, Golden, Oracle, Rules, Trap, Verdict, Visit};

/// Most instructions of a golden run.
const GOLDEN_STEPS: usize = 2_000_000;
/// Free runs after which a case that has not ended is looked at closely: one that goes
/// round through the oracle's stops is never interrupted.
const MOST_LEGS: u64 = 10_000;

/// How far to move.
#[derive(Clone, Copy)]
pub enum Advance<'a> {
    /// By one instruction.
    Step,
    /// Freely, to the next of these addresses, or to where the oracle must look.
    To(&'a [u64]),
}

/// A session's whole state, to come back to.
#[derive(Clone)]
pub struct Saved {
    /// The machine.
    pub machine: Checkpoint,
    /// The oracle's memory.
    pub ghost: Ghost,
    /// The pages at the outermost delivery, empty where no NMI is live.
    pub captured: Vec<u8>,
}

/// Where the CPU puts the frames of nested NMIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NestedFrame {
    /// None has been seen.
    Unknown,
    /// At the same address each time: the gate names an IST stack.
    Always(u64),
    /// On the stack that was interrupted.
    Varies,
}

impl NestedFrame {
    /// One was seen at `addr`.
    fn and(self, addr: u64) -> Self {
        match self {
            NestedFrame::Unknown => NestedFrame::Always(addr),
            NestedFrame::Always(at) if at == addr => self,
            _ => NestedFrame::Varies,
        }
    }
}

/// One scheme and scenario, booted and with its golden run made.
pub struct Session {
    pub(super) machine: Machine,
    pub(super) oracle: Oracle,
    ready: Checkpoint,
    /// The return instructions, where a free run stops while an NMI is live.
    live_stops: Vec<u64>,
    /// Room for a run's stops.
    pub(super) stops: Vec<u64>,
    /// Advances since the run began; a run that goes on and on is looked at closely.
    advances: u64,
    /// Where the CPU put the last nested NMI's frame.
    nested_frame: NestedFrame,
    /// The NMI that has just arrived is not delivered before another instruction was
    /// executed (`--hv-bug nmi-window-sets-tf`).
    late: bool,
}

impl Session {
    /// Boots the guest and makes the golden run.
    pub fn new(
        host: &Host,
        guest: &Arc<Guest>,
        scheme: &Scheme,
        scenario: &Scenario,
        knobs: Knobs,
    ) -> Result<Self, Error> {
        let machine = Machine::boot(host, guest, scheme, scenario, knobs)?;
        let rules = Rules::new(&machine, scheme, scenario);
        let ready = machine.checkpoint();
        let live_stops = own_irets(machine.guest(), scheme);
        let oracle = Oracle::new(Arc::new(rules));
        let stops = Vec::with_capacity(live_stops.len() + 64);
        let mut session = Self {
            machine,
            oracle,
            ready,
            live_stops,
            stops,
            advances: 0,
            nested_frame: NestedFrame::Unknown,
            late: false,
        };
        let golden = session.make_golden()?;
        let mut rules = Rules::new(session.machine_at_ready(), scheme, scenario);
        rules.golden = golden;
        session.oracle = Oracle::new(Arc::new(rules));
        Ok(session)
    }

    fn machine_at_ready(&mut self) -> &Machine {
        self.machine.restore(&self.ready);
        &self.machine
    }

    fn make_golden(&mut self) -> Result<Golden, Error> {
        self.oracle.recorded = Some(Vec::new());
        let mut counts = std::collections::HashMap::<u64, u32>::new();
        let mut golden = Golden::default();
        let (mut anchor, mut anchor_hash, mut power) = (Context::default(), 0, 1);
        loop {
            let now = Context::of(self.machine.state());
            if now == anchor && self.state_hash() == anchor_hash {
                let at = self.rules().names().show(now.rip());
                return Err(Error::NotReady(format!("its run without NMIs never ends: it goes round at {at}")));
            }
            if golden.visits.len() + 1 == power {
                (anchor, anchor_hash, power) = (now, self.state_hash(), power * 2);
            }
            let addr = self.machine.rip();
            let n = counts.entry(addr).or_default();
            *n += 1;
            let (blocked, shadow) = (self.machine.blocked(), self.machine.in_shadow());
            golden.visits.push(Visit { addr, n: *n, blocked, shadow });
            let stop = self.machine.step()?;
            match stop {
                Stop::Hypercall(abi::PORT_SCENARIO_END) => break,
                Stop::Hypercall(abi::PORT_PANIC) => {
                    return Err(Error::NotReady(format!(
                        "its run without NMIs panicked: {}",
                        self.machine.panic_message()
                    )));
                }
                _ => {}
            }
            if let Some(verdict) = self.observe(&stop, None) {
                return Err(match verdict {
                    Verdict::HostLimit { why } => Error::Limit(why.clone()),
                    verdict => Error::NotReady(format!("its run without NMIs fails: {verdict}")),
                });
            }
            if golden.visits.len() > GOLDEN_STEPS {
                return Err(Error::NotReady(format!(
                    "its run without NMIs has not ended after {GOLDEN_STEPS} instructions"
                )));
            }
        }
        let end = self.machine.checkpoint();
        golden.traps = self.oracle.recorded.take().unwrap_or_default();
        golden.checksum = end.vcpu.regs.rdi;
        golden.rsp = end.vcpu.regs.rsp;
        golden.pages = end.pages;
        Ok(golden)
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The oracle.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// The rules, with the golden run.
    pub fn rules(&self) -> &Arc<Rules> {
        self.oracle.rules()
    }

    /// Back to *ready*.
    pub fn reset(&mut self) {
        self.machine.restore(&self.ready);
        self.oracle.reset();
        self.advances = 0;
    }

    /// Copies the whole state into `out`.
    pub fn save(&self, out: &mut Saved) {
        self.machine.checkpoint_into(&mut out.machine);
        out.ghost = self.oracle.ghost;
        out.captured.clear();
        out.captured.extend_from_slice(self.oracle.captured());
    }

    /// A copy of the whole state.
    pub fn saved(&self) -> Saved {
        let (machine, ghost) = (self.machine.checkpoint(), self.oracle.ghost);
        Saved { machine, ghost, captured: self.oracle.captured().to_vec() }
    }

    /// Puts a saved state back.
    pub fn restore(&mut self, from: &Saved) {
        self.machine.restore(&from.machine);
        self.oracle.restore(&from.ghost, &from.captured);
        self.advances = 0;
    }

    /// The machine and the oracle, for a caller that puts a state back piece by piece
    /// and leaves out what is the same.
    pub fn pieces(&mut self) -> (&mut Machine, &mut Oracle) {
        self.advances = 0;
        (&mut self.machine, &mut self.oracle)
    }

    /// Has instructions executed by `engine` from now on.
    pub fn set_engine(&mut self, engine: Engine) {
        self.machine.set_engine(engine);
    }

    /// Follows from now on where values come from; `None` stops it.
    pub fn set_trace(&mut self, trace: Option<Box<Traced>>) {
        self.machine.set_trace(trace);
    }

    /// Takes what was followed; `None` where something could not be.
    pub fn take_trace(&mut self) -> Option<Box<Traced>> {
        self.machine.take_trace()
    }

    /// Forgets what was accessed.
    pub fn clear_accesses(&mut self) {
        self.machine.clear_accesses();
    }

    /// The verdict, once the run has ended.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.oracle.verdict()
    }

    /// Takes the verdict of a run that has ended.
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.oracle.take_verdict()
    }

    /// Something arrives at this boundary.
    pub fn event(&mut self, kind: Kind) {
        kind.happens(self);
    }

    /// An NMI arrives at this boundary.
    pub fn arrive(&mut self) {
        self.late = self.machine.races_with_nmi_window();
        self.oracle.arrived();
        self.machine.latch();
        self.oracle.boundary(&self.machine); // it must be latched now, in every gear
    }

    /// NMIs are unblocked at this boundary from outside.
    pub fn unmask(&mut self) {
        self.oracle.unmasked();
        self.machine.set_blocked(false);
    }

    /// Whether the latched NMI, if any, is delivered before the next instruction.
    pub fn deliverable(&self) -> bool {
        self.machine.pending() && !self.machine.blocked() && !self.machine.in_shadow()
    }

    /// Delivers it.
    pub fn deliver(&mut self, raise: Raise) -> Result<(), Error> {
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
                if self.oracle.ghost.outer.is_some() && self.machine.mode() == Mode::Native {
                    self.nested_frame = self.nested_frame.and(self.machine.state().regs.rsp);
                }
                self.oracle.delivered(&self.machine, &before);
                self.oracle.boundary(&self.machine);
            }
            Stop::Lost => self.oracle.ghost.pending = false, // I3 tells at the end
            // The delivery itself faulted (its stack is not mapped, …).
            other => {
                self.oracle.ghost.delivered();
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

    /// A nested NMI arrives at this boundary, and the whole of its path is run at once,
    /// back to this boundary. `false` where that is not what happened: the session's
    /// state is then good for nothing but to be put back.
    ///
    /// What the oracle is told is what it would have seen at the path's delivery and
    /// return; what lies between, only a run that stops there can show.
    pub fn nest_at_once(&mut self) -> Result<bool, Error> {
        let NestedFrame::Always(frame_at) = self.nested_frame else { return Ok(false) };
        let before = Context::of(self.machine.state());
        if self.oracle.ghost.outer.is_none() || !self.machine.deliver_and_return()? {
            return Ok(false);
        }
        let returned = self.oracle.nested(frame_at, &before.frame());
        Ok(returned && Context::of(self.machine.state()) == before)
    }

    /// Moves on. Afterwards the machine stands at another boundary, or the run has a
    /// verdict.
    pub fn advance(&mut self, how: Advance) -> Result<(), Error> {
        let iret = self.return_ahead();
        let stop = match how {
            Advance::To(places) if iret.is_none() => {
                self.advances += 1;
                self.stops.clear();
                self.stops.extend_from_slice(places);
                // With an NMI live, every return and every fault is looked at; without
                // one, only the traps that I16 compares.
                let live = self.oracle.ghost.outer.is_some() || self.machine.pending();
                let idt = self.machine.idt();
                if live {
                    self.stops.extend_from_slice(&self.live_stops);
                    self.stops.extend(idt.handlers());
                } else {
                    self.stops.extend([1, 13].into_iter().filter_map(|v| idt.handler(v)));
                }
                self.machine.leg(&self.stops)?
            }
            _ => self.machine.step()?,
        };
        if stop == Stop::Interrupted || self.advances > MOST_LEGS {
            return self.hunt(stop == Stop::Interrupted);
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
        let landed = iret.is_some_and(|(_, _, f)| f.rip == m.rip() && f.rsp == m.state().regs.rsp);
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

    /// The #DBs and #GPs of the golden run.
    pub fn golden_traps(&self) -> &[Trap] {
        &self.rules().golden.traps
    }
}

/// The iretqs that do not belong to another scheme.
fn own_irets(guest: &Guest, scheme: &Scheme) -> Vec<u64> {
    let others: Vec<&str> = guest
        .image
        .declared
        .schemes
        .iter()
        .map(|s| s.prefix.as_str())
        .filter(|p| !p.is_empty() && *p != scheme.prefix)
        .collect();
    let foreign = |addr: u64| {
        let symbol = guest.image.symbols.nearest_code(addr, &scheme.prefix);
        symbol.is_some_and(|s| others.iter().any(|p| s.name.starts_with(p)))
    };
    guest.code.irets().iter().copied().filter(|a| !foreign(*a)).collect()
}
