//! One case: a schedule carried out on the kernel, and what is to be said about it.

use std::collections::HashMap;

use super::error::LabError;
use super::fault_by::Away;
use super::lab::Lab;
use super::pc::{Change, Limit, Stop};
use crate::inject::{At, Event, Gear, Kind, ScheduleError};
use crate::machine::Raise;
use crate::oracle::Verdict;

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The judgement.
    pub verdict: Verdict,
    /// NMIs that arrived.
    pub arrived: u32,
    /// Of these, how many fell together with one already latched.
    pub coalesced: u32,
    /// How many the CPU delivered.
    pub delivered: u32,
    /// How many the kernel counted, in a livelock at most as many as were delivered; as many as were
    /// delivered where it does not count.
    pub handled: u32,
    /// Events whose boundary was never reached.
    pub unreached: u32,
}

/// Instructions after which a stepped case, or a path, is taken to have no end.
pub(super) const LONGEST: usize = 200_000;

/// A case under way.
pub struct Run<'a> {
    pub(super) lab: &'a mut Lab,
    raise: Raise,
    events: Vec<Event>,
    visits: HashMap<u64, u32>,
    /// P: an NMI waits until NMIs are unblocked.
    pub(super) latched: bool,
    /// The instruction that comes next is to fault.
    pub(super) faults: bool,
    /// The detours that execution is on, the last begun last: the handler of an NMI that nests in one
    /// may set out on another.
    pub(super) away: Vec<Away>,
    pub(super) arrived: u32,
    coalesced: u32,
    pub(super) delivered: u32,
    pub(super) count_before: Option<u32>,
    /// The kernel's count when the last NMI arrived.
    pub(super) count_at_arrival: Option<u32>,
    /// How many NMIs the kernel had passed on, at first and when the last arrived.
    pub(super) passed_before: Option<u32>,
    pub(super) passed_at_arrival: Option<u32>,
    limit: Limit,
    /// Whether the user program has gone on.
    pub(super) beaten: bool,
    /// Whether every instruction is stepped.
    stepping: bool,
    /// How many instructions were stepped.
    steps: usize,
}

/// Where a case stands.
pub enum Step {
    /// At a boundary.
    On,
    /// Back in the interrupted context.
    Home,
    /// It is over.
    Over(Verdict),
}

impl Lab {
    /// Carries out a schedule from the site.
    pub fn case(&mut self, events: &[Event], gear: Gear) -> Result<Outcome, LabError> {
        let mut run = Run::new(self, events, gear)?;
        let verdict = loop {
            match run.advance()? {
                Step::On => {}
                Step::Home => break run.judge()?,
                Step::Over(verdict) => break verdict,
            }
        };
        run.outcome(verdict)
    }

    /// The words that a schedule leaves changed when execution is back at the site, which it
    /// must come to.
    pub(super) fn written_by(&mut self, events: &[Event]) -> Result<Vec<Change>, LabError> {
        let mut run = Run::new(self, events, Gear::Jump)?;
        loop {
            match run.advance()? {
                Step::On => {}
                Step::Home => return Ok(run.lab.pc.changes(&mut run.lab.snapshot)?),
                Step::Over(verdict) => {
                    return Err(LabError::Single(run.lab.show_schedule(events), verdict.to_string()));
                }
            }
        }
    }
}

impl<'a> Run<'a> {
    /// A case at its site.
    pub fn new(lab: &'a mut Lab, events: &[Event], gear: Gear) -> Result<Self, LabError> {
        lab.pc.restore(&mut lab.snapshot)?;
        let count = lab.path.count(&lab.pc)?;
        let passed = lab.kernel.passed_on(&lab.pc)?;
        let mut run = Self {
            raise: if gear == Gear::Arm { Raise::Ioctl } else { Raise::Events },
            events: events.to_vec(),
            visits: HashMap::new(),
            latched: false,
            faults: false,
            away: Vec::new(),
            arrived: 0,
            coalesced: 0,
            delivered: 0,
            count_before: count,
            count_at_arrival: count,
            passed_before: passed,
            passed_at_arrival: passed,
            limit: Limit::new(lab.limit)?,
            beaten: false,
            stepping: gear == Gear::Step,
            steps: 0,
            lab,
        };
        run.visit(run.lab.pc.rip())?;
        Ok(run)
    }

    fn outcome(&self, verdict: Verdict) -> Result<Outcome, LabError> {
        let handled = self.handled()?.unwrap_or(self.delivered);
        // A livelock may count for as long as it is let.
        let endless = matches!(verdict, Verdict::Livelock { .. });
        Ok(Outcome {
            verdict,
            arrived: self.arrived,
            coalesced: self.coalesced,
            delivered: self.delivered,
            handled: if endless { handled.min(self.delivered) } else { handled },
            unreached: self.events.len() as u32,
        })
    }

    /// How many NMIs the kernel has counted since the case began.
    pub(super) fn handled(&self) -> Result<Option<u32>, LabError> {
        let count = self.lab.path.count(&self.lab.pc)?;
        Ok(count.zip(self.count_before).map(|(now, before)| now.wrapping_sub(before)))
    }

    /// The kernel, as the case has it now.
    pub fn lab(&self) -> &Lab {
        self.lab
    }

    /// The kernel, for another case.
    pub fn into_lab(self) -> &'a mut Lab {
        self.lab
    }

    /// NMIs that arrived so far.
    pub fn arrived(&self) -> u32 {
        self.arrived
    }

    /// NMIs that were delivered so far.
    pub fn delivered(&self) -> u32 {
        self.delivered
    }

    /// P: an NMI waits until NMIs are unblocked.
    pub fn latched(&self) -> bool {
        self.latched
    }

    /// The events that have not happened yet.
    pub fn to_come(&self) -> &[Event] {
        &self.events
    }

    /// B: whether NMIs are blocked.
    pub fn blocked(&self) -> bool {
        self.lab.pc.state().events.nmi.masked != 0
    }

    /// Execution stands at `addr`: what is due here happens.
    fn visit(&mut self, addr: u64) -> Result<(), LabError> {
        let n = self.visits.entry(addr).or_default();
        *n += 1;
        let n = *n;
        while let Some(i) = self.events.iter().position(|e| e.at.addr == addr && e.at.n == n) {
            match self.events.remove(i).kind {
                Kind::Nmi => {
                    self.arrived += 1;
                    self.coalesced += u32::from(self.latched);
                    self.latched = true;
                    self.count_at_arrival = self.lab.path.count(&self.lab.pc)?;
                    self.passed_at_arrival = self.lab.kernel.passed_on(&self.lab.pc)?;
                }
                Kind::Unmask => self.lab.pc.state_mut().events.nmi.masked = 0,
                Kind::Fault => self.faults = true,
                kind @ (Kind::Mce | Kind::Irq | Kind::Db | Kind::Smi) => {
                    return Err(ScheduleError::OnlyInScenarios(kind).into());
                }
            }
        }
        if self.faults && self.deliverable() {
            // The NMI comes before the instruction, which faults when execution is back there.
            self.faults = false;
            self.events.push(Event { kind: Kind::Fault, at: At { addr, n: n + 1 } });
        }
        Ok(())
    }

    /// Moves to the next boundary that matters; in the step gear, to the next.
    pub fn advance(&mut self) -> Result<Step, LabError> {
        if self.stepping {
            self.restart_clock()?;
        }
        if self.deliverable() {
            return self.deliver();
        }
        if self.faults {
            return self.fault();
        }
        if self.delivered > 0 && !self.latched && self.is_home() {
            return Ok(Step::Home);
        }
        if self.stepping {
            self.steps += 1;
            if self.steps > LONGEST {
                let at = self.lab.show(self.lab.pc.rip());
                let detail = format!("not over after {LONGEST} instructions, at {at}");
                return Ok(Step::Over(Verdict::Livelock { detail }));
            }
            return self.step();
        }
        let rip = self.lab.pc.rip();
        let mut stops: Vec<u64> = self.events.iter().map(|e| e.at.addr).chain(self.ends_of_detours()).collect();
        if self.latched || self.lab.site.is_user() {
            stops.extend(&self.lab.irets);
        }
        if !self.lab.site.is_user() {
            stops.push(self.lab.snapshot.vcpu().regs.rip);
        }
        if self.lab.irets.contains(&rip) && (self.latched || self.lab.site.is_user()) {
            return self.step();
        }
        if stops.contains(&rip) {
            return self.step();
        }
        let stop = self.lab.pc.run(&stops, self.lab.limit)?;
        self.took(stop)
    }

    /// One instruction.
    pub(super) fn step(&mut self) -> Result<Step, LabError> {
        if self.to_user() {
            if !self.latched {
                return Ok(Step::Home);
            }
            // The latched NMI comes at the first boundary in user mode.
            if let Some(verdict) = self.wrong_context()? {
                return Ok(Step::Over(verdict));
            }
            return self.deliver();
        }
        let stop = self.lab.pc.step()?;
        self.took(stop)
    }

    pub(super) fn took(&mut self, stop: Stop) -> Result<Step, LabError> {
        if self.limit.is_over()? {
            return Ok(Step::Over(self.hung()));
        }
        Ok(match stop {
            Stop::At(_) => {
                self.come_back();
                self.visit(self.lab.pc.rip())?;
                Step::On
            }
            Stop::Mark | Stop::LdtMark | Stop::Heartbeat(_) => Step::On,
            other => Step::Over(self.broken(other)),
        })
    }

    pub(super) fn deliver(&mut self) -> Result<Step, LabError> {
        self.latched = false;
        self.delivered += 1;
        let stop = self.lab.pc.deliver_nmi(self.raise, self.lab.limit)?;
        self.took(stop)
    }

    /// The time that a case may take begins anew: for walks, which take longer.
    pub(super) fn restart_clock(&mut self) -> Result<(), LabError> {
        self.limit = Limit::new(self.lab.limit)?;
        Ok(())
    }

    /// Whether an NMI waits that can be delivered here.
    pub(super) fn deliverable(&self) -> bool {
        self.latched && !self.blocked()
    }

    /// Whether execution is back where the first NMI arrived.
    pub(super) fn is_home(&self) -> bool {
        let (now, then) = (&self.lab.pc.state().regs, &self.lab.snapshot.vcpu().regs);
        !self.lab.site.is_user() && now.rip == then.rip && now.rsp == then.rsp
    }

    /// Whether the next instruction is an iretq to CPL 3.
    pub(super) fn to_user(&self) -> bool {
        let state = self.lab.pc.state();
        self.lab.site.is_user()
            && self.lab.irets.contains(&state.regs.rip)
            && self.lab.pc.words::<2>(state.regs.rsp).is_some_and(|[_, cs]| cs & 3 == 3)
    }
}
