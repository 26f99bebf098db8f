//! One case on a real kernel, recorded. The snapshot at the first NMI's site is its checkpoint: the
//! way back is to execute it again from there, which takes less than a second.

use std::fmt::Write;

use iced_x86::InstructionInfoFactory;

use super::Error;
use super::access::{Access, operands, pieces};
use super::event::What;
use super::run::{Log, Run};
use crate::cpu::Lazy;
use crate::image::Flow;
use crate::image::vectors::{has_error_code, vector_name};
use crate::inject::{Event, Gear, Kind};
use crate::kernels::pc::Pc;
use crate::kernels::{Lab, Step, Walk};
use crate::kvm::VcpuState;
use crate::oracle::Verdict;

/// A case from its site to its verdict.
pub struct KernelRun<'a> {
    /// Only while it begins anew is there none.
    walk: Option<Walk<'a>>,
    events: Vec<Event>,
    log: Log,
    verdict: Verdict,
    missed: Option<String>,
    /// Writes the command that runs a schedule again.
    line: Box<dyn Fn(&str) -> String + 'a>,
}

/// What was so before a move.
struct Before {
    place: String,
    flow: Option<Flow>,
    blocked: bool,
    arrived: u32,
    delivered: u32,
}

impl<'a> KernelRun<'a> {
    /// Runs `events` to their verdict, and goes back to the site. `line` writes the command that
    /// runs a schedule again.
    pub fn new(lab: &'a mut Lab, events: Vec<Event>, line: impl Fn(&str) -> String + 'a) -> Result<Self, Error> {
        let walk = Walk::new(lab, &events, Gear::Step)?;
        let mut new = Self {
            walk: Some(walk),
            events,
            log: Log::default(),
            verdict: Verdict::Pass,
            missed: None,
            line: Box::new(line),
        };
        new.log.places.push(new.pc()?.rip());
        let first = new.arrived(0)?;
        new.log.tell_of(0, first);
        new.record()?;
        new.go(0)?;
        Ok(new)
    }

    /// P: whether an NMI waits until NMIs are unblocked.
    pub fn pending(&self) -> bool {
        self.walk.as_ref().is_some_and(Walk::latched)
    }

    /// The machine, at the present moment.
    pub fn pc(&self) -> Result<&Pc, Error> {
        Ok(self.walk()?.lab().pc())
    }

    fn walk(&self) -> Result<&Walk<'a>, Error> {
        self.walk.as_ref().ok_or(Error::Spent)
    }

    /// Back to the site.
    fn begin(&mut self) -> Result<(), Error> {
        let lab = self.walk.take().ok_or(Error::Spent)?.into_lab();
        self.walk = Some(Walk::new(lab, &self.events, Gear::Step)?);
        self.log.now = 0;
        Ok(())
    }

    /// What has arrived at the boundary at hand, where so many had arrived before.
    fn arrived(&self, before: u32) -> Result<Option<(What, String)>, Error> {
        let walk = self.walk()?;
        let place = self.show(walk.lab().pc().rip());
        let latched = if walk.blocked() { ", and is latched: NMIs are blocked" } else { "" };
        Ok((walk.arrived() > before).then(|| (What::Arrival, format!("an NMI arrives{latched} (at {place})"))))
    }

    fn before(&self) -> Result<Before, Error> {
        let walk = self.walk()?;
        let pc = walk.lab().pc();
        Ok(Before {
            place: self.show(pc.rip()),
            flow: pc.next_instruction().map(|d| d.flow),
            blocked: walk.blocked(),
            arrived: walk.arrived(),
            delivered: walk.delivered(),
        })
    }

    /// The exception whose handler the last move began.
    fn raised(&self, before: &Before) -> Result<Option<u8>, Error> {
        let pc = self.pc()?;
        let raised = (0..32u8).rev().find(|v| *v != 2 && pc.handler(*v) == Some(pc.rip()));
        Ok(raised.filter(|_| before.flow != Some(Flow::Iret)))
    }

    /// What the last move did, in sentences.
    fn told(&self, before: &Before, raised: Option<u8>) -> Result<Vec<(What, String)>, Error> {
        let walk = self.walk()?;
        let (pc, place) = (walk.lab().pc(), &before.place);
        let (here, rsp) = (self.show(pc.rip()), pc.state().regs.rsp);
        let opens = if before.blocked && !walk.blocked() { ", and unblocks NMIs" } else { "" };
        let mut out = Vec::new();
        match raised {
            _ if walk.delivered() > before.delivered => {
                let text = format!("an NMI is delivered at {place}: {here} begins, with its frame at {rsp:#x}");
                out.push((What::Delivery, text));
            }
            Some(vector) => {
                let text = format!("{} is raised at {place}, and its handler {here} begins", vector_name(vector));
                out.push((What::Fault, text));
            }
            None if before.flow == Some(Flow::Iret) => {
                out.push((What::Return, format!("the return at {place} leads to {here}{opens}")));
            }
            None => {}
        }
        out.extend(self.arrived(before.arrived)?);
        Ok(out)
    }

    /// Goes on from the last moment that is recorded to the verdict.
    fn record(&mut self) -> Result<(), Error> {
        let mut info = InstructionInfoFactory::new();
        let verdict = loop {
            let by = self.log.end();
            let before = self.before()?;
            let mut ahead = Vec::new();
            let pc = self.pc()?;
            if let Some(next) = pc.next_instruction() {
                let state = pc.state();
                operands(&mut info, &next, (&state.regs, &state.sregs), |a, n| self.physical(a, n), &mut ahead);
            }
            let walk = self.walk.as_mut().ok_or(Error::Spent)?;
            match walk.advance()? {
                Step::On => {}
                Step::Home => break walk.judge()?,
                Step::Over(verdict) => break verdict,
            }
            self.log.places.push(self.pc()?.rip());
            let raised = self.raised(&before)?;
            let delivered = self.walk()?.delivered() > before.delivered;
            if raised.is_some() || delivered {
                let words = 5 + u64::from(raised.is_some_and(has_error_code));
                let frame = self.physical(self.vcpu().regs.rsp, 8 * words);
                ahead =
                    frame.into_iter().map(|(addr, len)| Access { by, addr, len, writes: true, reads: false }).collect();
            }
            self.log.accesses.extend(ahead.into_iter().map(|access| Access { by, ..access }));
            let told = self.told(&before, raised)?;
            self.log.tell_of(by + 1, told);
        };
        self.log.now = self.log.end();
        self.log.tell_of(self.log.now, [(What::End, format!("the run ends: {verdict}"))]);
        let rest = self.walk()?.to_come();
        self.missed = (!rest.is_empty()).then(|| format!("{} never arrived", self.walk_shows(rest)));
        self.verdict = verdict;
        Ok(())
    }

    fn walk_shows(&self, events: &[Event]) -> String {
        self.walk.as_ref().map(|walk| walk.lab().show_schedule(events)).unwrap_or_default()
    }
}

impl Run for KernelRun<'_> {
    fn log(&self) -> &Log {
        &self.log
    }

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn missed(&self) -> Option<&str> {
        self.missed.as_deref()
    }

    fn go(&mut self, to: usize) -> Result<(), Error> {
        let (to, end) = (to.min(self.log.end()), self.log.end());
        // The end is judged by running on.
        if to < self.log.now || self.log.now == end {
            self.begin()?;
        }
        while self.log.now < to {
            let walk = self.walk.as_mut().ok_or(Error::Spent)?;
            let goes_on = matches!(walk.advance()?, Step::On);
            self.log.now += 1;
            let rip = walk.lab().pc().rip();
            let was = self.log.places[self.log.now];
            if !goes_on || rip != was {
                return Err(Error::Diverged { after: self.log.now, was: self.show(was), is: self.show(rip) });
            }
        }
        Ok(())
    }

    fn inject(&mut self, kind: Kind) -> Result<Option<String>, Error> {
        let now = self.log.now;
        if now == self.log.end() {
            return Ok(None);
        }
        let told = match kind {
            Kind::Nmi => format!("an NMI arrives (at {})", self.show(self.vcpu().regs.rip)),
            Kind::Unmask => format!("NMIs are unmasked from outside (at {})", self.show(self.vcpu().regs.rip)),
            Kind::Fault => format!("the instruction faults (at {})", self.show(self.vcpu().regs.rip)),
            Kind::Mce | Kind::Irq | Kind::Db | Kind::Smi => return Err(Error::NotHere(kind)),
        };
        self.events.push(Event { kind, at: self.log.boundary() });
        self.log.forget();
        self.begin()?;
        // Forgotten is what comes after; up to here it is the same.
        while self.log.now < now {
            let walk = self.walk.as_mut().ok_or(Error::Spent)?;
            let _ = walk.advance()?;
            self.log.now += 1;
        }
        self.log.tell_of(now, [(What::Arrival, told.clone())]);
        self.record()?;
        self.go(now)?;
        Ok(Some(told))
    }

    fn vcpu(&self) -> &VcpuState {
        // There always is a walk between two calls.
        static NONE: std::sync::LazyLock<VcpuState> = std::sync::LazyLock::new(VcpuState::default);
        self.walk.as_ref().map_or(&NONE, |walk| walk.lab().pc().state())
    }

    fn lazy(&self) -> Result<Lazy, Error> {
        Ok(self.pc()?.lazy().map_err(crate::kernels::LabError::from)?)
    }

    fn read(&self, addr: u64, out: &mut [u8]) -> bool {
        self.pc().is_ok_and(|pc| pc.read(addr, out))
    }

    fn physical(&self, addr: u64, len: u64) -> Vec<(u64, u32)> {
        let Ok(pc) = self.pc() else { return Vec::new() };
        pieces(addr, len, |at| pc.physical(at))
    }

    fn show(&self, addr: u64) -> String {
        self.walk.as_ref().map_or_else(|| format!("{addr:#x}"), |walk| walk.lab().show(addr))
    }

    fn nmis(&self) -> String {
        let Some(walk) = &self.walk else { return String::new() };
        let mut out = format!("P, an NMI is pending: {}\n", if walk.latched() { "yes" } else { "no" });
        let _ = writeln!(out, "NMIs that arrived: {}, and were delivered: {}", walk.arrived(), walk.delivered());
        out
    }

    fn again(&self) -> String {
        (self.line)(&self.walk_shows(&self.events))
    }

    fn file(&self) -> Vec<u8> {
        self.pc().map(|pc| super::symbols::file(&pc.symbols)).unwrap_or_default()
    }
}
