//! One case: a schedule carried out on the kernel, and what is to be said about it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lab::{Lab, LabError};
use super::linux::user;
use super::pc::Stop;
use super::site::Site;
use crate::cpu::rflags;
use crate::inject::{Event, Kind};
use crate::machine::Raise;
use crate::oracle::{Invariant, Verdict, wrong_checksum};

/// How NMIs are raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// By `KVM_NMI`: what a device does.
    Arm,
    /// By the vCPU's events: faster.
    Jump,
}

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
    /// How many the kernel counted.
    pub handled: u32,
    /// Events whose boundary was never reached.
    pub unreached: u32,
}

/// A case under way.
pub(super) struct Run<'a> {
    pub(super) lab: &'a mut Lab,
    raise: Raise,
    events: Vec<Event>,
    visits: HashMap<u64, u32>,
    /// P: an NMI waits until NMIs are unblocked.
    latched: bool,
    arrived: u32,
    coalesced: u32,
    pub(super) delivered: u32,
    count_before: u32,
    /// The kernel's count when the last NMI arrived.
    count_at_arrival: u32,
    started: Instant,
    /// While the lab steps: what a clock shows that goes on by a little each time.
    clock: Option<u64>,
}

/// Where a case stands.
pub(super) enum Step {
    /// At a boundary.
    On,
    /// Back in the interrupted context.
    Home,
    /// It is over.
    Over(Verdict),
}

impl Lab {
    /// Carries out a schedule from the site.
    pub fn case(&mut self, events: &[Event], which: Which) -> Result<Outcome, LabError> {
        let mut run = Run::new(self, events, which)?;
        let verdict = loop {
            match run.advance()? {
                Step::On => {}
                Step::Home => break run.judge()?,
                Step::Over(verdict) => break verdict,
            }
        };
        Ok(run.outcome(verdict))
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(lab: &'a mut Lab, events: &[Event], which: Which) -> Result<Self, LabError> {
        lab.pc.restore(&mut lab.snapshot)?;
        let count = lab.path.count(&lab.pc);
        let mut run = Self {
            raise: if which == Which::Arm { Raise::Ioctl } else { Raise::Events },
            events: events.to_vec(),
            visits: HashMap::new(),
            latched: false,
            arrived: 0,
            coalesced: 0,
            delivered: 0,
            count_before: count,
            count_at_arrival: count,
            started: Instant::now(),
            clock: None,
            lab,
        };
        run.visit(run.lab.pc.rip());
        Ok(run)
    }

    fn outcome(&self, verdict: Verdict) -> Outcome {
        Outcome {
            verdict,
            arrived: self.arrived,
            coalesced: self.coalesced,
            delivered: self.delivered,
            handled: self.lab.path.count(&self.lab.pc).wrapping_sub(self.count_before),
            unreached: self.events.len() as u32,
        }
    }

    fn blocked(&self) -> bool {
        self.lab.pc.state().events.nmi.masked != 0
    }

    /// Execution stands at `addr`: what is due here happens.
    fn visit(&mut self, addr: u64) {
        let n = self.visits.entry(addr).or_default();
        *n += 1;
        let n = *n;
        while let Some(i) = self.events.iter().position(|e| e.at.addr == addr && e.at.n == n) {
            match self.events.remove(i).kind {
                Kind::Nmi => {
                    self.arrived += 1;
                    self.coalesced += u32::from(self.latched);
                    self.latched = true;
                    self.count_at_arrival = self.lab.path.count(&self.lab.pc);
                }
                Kind::Unmask => self.lab.pc.state_mut().events.nmi.masked = 0,
            }
        }
    }

    /// Moves to the next boundary that matters.
    pub(super) fn advance(&mut self) -> Result<Step, LabError> {
        if self.latched && !self.blocked() {
            return self.deliver();
        }
        if self.delivered > 0 && !self.latched && self.is_home() {
            return Ok(Step::Home);
        }
        let rip = self.lab.pc.rip();
        let mut stops: Vec<u64> = self.events.iter().map(|e| e.at.addr).collect();
        if self.latched || self.lab.site == Site::User {
            stops.extend(&self.lab.irets);
        }
        if self.lab.site != Site::User {
            stops.push(self.lab.snapshot.vcpu().regs.rip);
        }
        if self.lab.irets.contains(&rip) && (self.latched || self.lab.site == Site::User) {
            return self.step();
        }
        if stops.contains(&rip) {
            return self.step();
        }
        let stop = self.lab.pc.run(&stops, self.lab.limit)?;
        Ok(self.took(stop))
    }

    /// One instruction.
    pub(super) fn step(&mut self) -> Result<Step, LabError> {
        if self.to_user() {
            if !self.latched {
                return Ok(Step::Home);
            }
            // The latched NMI comes at the first boundary in user mode.
            if let Some(verdict) = self.wrong_context() {
                return Ok(Step::Over(verdict));
            }
            return self.deliver();
        }
        if let Some(ticks) = &mut self.clock {
            *ticks += 1000;
            if self.lab.pc.answer_rdtsc(&self.lab.snapshot, *ticks) {
                let rip = self.lab.pc.rip();
                return Ok(self.took(Stop::At(rip)));
            }
        }
        let stop = self.lab.pc.step()?;
        Ok(self.took(stop))
    }

    /// From here on the kernel's clock goes by what is stepped, not by wall time.
    pub(super) fn hold_clock(&mut self) {
        self.clock = Some(0);
    }

    fn took(&mut self, stop: Stop) -> Step {
        if self.started.elapsed() > self.lab.limit {
            return Step::Over(self.hung());
        }
        match stop {
            Stop::At(addr) => {
                self.visit(addr);
                Step::On
            }
            Stop::Mark | Stop::Heartbeat(_) => Step::On,
            other => Step::Over(self.broken(other)),
        }
    }

    pub(super) fn deliver(&mut self) -> Result<Step, LabError> {
        self.latched = false;
        self.delivered += 1;
        let stop = self.lab.pc.deliver_nmi(self.raise, self.lab.limit)?;
        Ok(self.took(stop))
    }

    /// The time that a case may take begins anew: for walks, which take longer.
    pub(super) fn restart_clock(&mut self) {
        self.started = Instant::now();
    }

    /// Whether an NMI waits that can be delivered here.
    pub(super) fn deliverable(&self) -> bool {
        self.latched && !self.blocked()
    }

    /// Whether execution is back where the first NMI arrived.
    pub(super) fn is_home(&self) -> bool {
        let (now, then) = (&self.lab.pc.state().regs, &self.lab.snapshot.vcpu().regs);
        self.lab.site != Site::User && now.rip == then.rip && now.rsp == then.rsp
    }

    /// Whether the next instruction is an iretq to CPL 3.
    pub(super) fn to_user(&self) -> bool {
        let state = self.lab.pc.state();
        self.lab.site == Site::User
            && self.lab.irets.contains(&state.regs.rip)
            && self.lab.pc.memory().words::<2>(state.sregs.cr3, state.regs.rsp).is_some_and(|[_, cs]| cs & 3 == 3)
    }

    /// What is different in the interrupted context (I6, I7).
    fn wrong_context(&self) -> Option<Verdict> {
        let (now, then) = (self.lab.pc.state(), self.lab.snapshot.vcpu());
        let (mut regs, mut want) = (now.regs, then.regs);
        let memory = self.lab.pc.memory();
        if self.to_user() {
            // At the iretq: what it is about to load.
            let [rip, cs, flags, rsp, ss] = memory.words::<5>(now.sregs.cr3, now.regs.rsp)?;
            (regs.rip, regs.rflags, regs.rsp) = (rip, flags, rsp);
            let selectors = (u64::from(then.sregs.cs.selector), u64::from(then.sregs.ss.selector));
            if (cs, ss) != selectors {
                return Some(context(format!("CS:SS {cs:#x}:{ss:#x}, not {:#x}:{:#x}", selectors.0, selectors.1)));
            }
        } else if (now.sregs.cs, now.sregs.ss) != (then.sregs.cs, then.sregs.ss) {
            return Some(context("CS or SS".into()));
        }
        (regs.rflags, want.rflags) = (regs.rflags & !rflags::RF, want.rflags & !rflags::RF);
        if regs != want {
            return Some(context(differences(&regs, &want)));
        }
        let bases = |s: &crate::cpu::Sregs| (s.fs.base, s.gs.base, s.cr3, s.cr2);
        if bases(&now.sregs) != bases(&then.sregs) {
            return Some(context(format!(
                "FS base, GS base, CR3, CR2 {:x?}, not {:x?}",
                bases(&now.sregs),
                bases(&then.sregs)
            )));
        }
        if self.lab.site == Site::User {
            return None;
        }
        let at = self.lab.pc.physical(want.rsp)? as usize;
        let end = (at + 256).min((at | 0xfff) + 1);
        let same = memory.0.get(at..end) == self.lab.snapshot.ram().get(at..end);
        (!same).then(|| Verdict::Violation {
            invariant: Invariant::Memory,
            detail: "the interrupted stack changed".into(),
        })
    }

    /// Back in the interrupted context: is it the same, is everything handled, does
    /// everything live?
    fn judge(&mut self) -> Result<Verdict, LabError> {
        let left_blocked = self.blocked() && self.lab.site != Site::User;
        if let Some(verdict) = self.wrong_context() {
            return Ok(verdict);
        }
        if left_blocked {
            return Ok(violation(Invariant::AtRest, "NMIs are left blocked".into()));
        }
        let limit = self.lab.limit.max(Duration::from_millis(200));
        let verdict = loop {
            match self.lab.pc.run(&[], limit)? {
                Stop::Mark => {}
                Stop::Heartbeat(sum) if sum == user::checksum() => break Verdict::Pass,
                Stop::Heartbeat(sum) => break wrong_checksum(sum.into(), user::checksum().into()),
                other => break self.broken(other),
            }
        };
        if !verdict.is_pass() {
            return Ok(verdict);
        }
        let count = self.lab.path.count(&self.lab.pc);
        let handled = count.wrapping_sub(self.count_before);
        if self.arrived > 0 && count == self.count_at_arrival {
            let detail = format!("lost: {} arrived, {handled} were handled, none after the last came", self.arrived);
            return Ok(violation(Invariant::Service, detail));
        }
        if handled > self.delivered {
            let detail = format!("{handled} were handled, {} were delivered", self.delivered);
            return Ok(violation(Invariant::Bound, detail));
        }
        Ok(Verdict::Pass)
    }

    fn broken(&self, stop: Stop) -> Verdict {
        let at = self.lab.show(self.lab.pc.rip());
        match stop {
            Stop::Oops(line) => violation(Invariant::NoFault, format!("oops: {line}")),
            Stop::Shutdown => Verdict::Shutdown { detail: format!("triple fault at {at}") },
            Stop::Budget => self.hung(),
            Stop::Reset => violation(Invariant::NoFault, "the kernel reset the machine".into()),
            Stop::Dead => violation(Invariant::NoFault, format!("the CPU halted for good at {at}")),
            Stop::Idle => violation(Invariant::Progress, "the CPU is idle, and nothing will wake it".into()),
            Stop::Failed(why) => Verdict::HostLimit { why },
            other => violation(Invariant::NoFault, format!("{other:?} at {at}")),
        }
    }

    fn hung(&self) -> Verdict {
        let at = self.lab.show(self.lab.pc.rip());
        let from = self.lab.pc.callers(4).join(" < ");
        Verdict::Livelock { detail: format!("not over after {} ms, near {at} < {from}", self.lab.limit.as_millis()) }
    }
}

fn violation(invariant: Invariant, detail: String) -> Verdict {
    Verdict::Violation { invariant, detail }
}

fn context(what: String) -> Verdict {
    violation(Invariant::Context, format!("the interrupted context differs: {what}"))
}

fn differences(now: &crate::cpu::Regs, want: &crate::cpu::Regs) -> String {
    let list = |r: &crate::cpu::Regs| {
        [
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
            ("rsi", r.rsi),
            ("rdi", r.rdi),
            ("rbp", r.rbp),
            ("rsp", r.rsp),
            ("r8", r.r8),
            ("r9", r.r9),
            ("r10", r.r10),
            ("r11", r.r11),
            ("r12", r.r12),
            ("r13", r.r13),
            ("r14", r.r14),
            ("r15", r.r15),
            ("rip", r.rip),
            ("rflags", r.rflags),
        ]
    };
    let differing = list(now).into_iter().zip(list(want)).filter(|(a, b)| a.1 != b.1);
    let words: Vec<String> = differing.map(|((n, a), (_, b))| format!("{n} {a:#x}, not {b:#x}")).collect();
    words.join("; ")
}
