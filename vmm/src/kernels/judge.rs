//! The one judge of cases, for sweeps, schedules and replays alike: is the interrupted
//! context the same, is all memory that no NMI may write, is everything handled, and does
//! everything live?
//!
//! What cannot be read is an error, never a pass.

use std::time::Duration;

use super::case::Run;
use super::error::LabError;
use super::footprint::name;
use super::kernel::{Alive, Holds, Vital};
use super::pc::{Change, Stop};
use super::reference::{comparable, whole};
use crate::cpu::{Difference, rflags};
use crate::oracle::{Context, Invariant, Verdict, wrong_checksum};

/// CPU time that the user program has to show that it lives.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// What a complaint of the kernel's breaks.
fn complaint(line: &str) -> Verdict {
    Verdict::breaks(Invariant::NoFault, format!("the kernel says: {line}"))
}

impl Run<'_> {
    /// Judges a case that is back in the interrupted context.
    pub fn judge(&mut self) -> Result<Verdict, LabError> {
        let lab = &mut *self.lab;
        let changes = lab.pc.changes(&mut lab.snapshot)?;
        let count = self.wrong_count()?;
        self.judge_home(&changes, count)
    }

    /// The same, where it is known what memory was changed, and what is wrong with the number of
    /// NMIs handled.
    pub(super) fn judge_home(&mut self, changes: &[Change], count: Option<Verdict>) -> Result<Verdict, LabError> {
        self.beaten = false;
        if let Some(verdict) = self.wrong_context()? {
            return Ok(verdict);
        }
        if self.blocked() && !self.to_user() {
            return Ok(Verdict::breaks(Invariant::AtRest, "NMIs are left blocked"));
        }
        if let Some(verdict) = self.wrong_vitals()? {
            return Ok(verdict);
        }
        if let Some(verdict) = count.or_else(|| self.wrong_memory(changes)) {
            return Ok(verdict);
        }
        if let Some(verdict) = self.dead()? {
            return Ok(verdict);
        }
        let left = |run: &Self| Ok::<_, LabError>(run.wrong_vitals()?.or(run.not_passed_on()?));
        // A sign of life that was under way when the NMI came is older than what is passed on.
        if self.passed_before.is_some()
            && left(self)?.is_some()
            && let Some(verdict) = self.dead()?
        {
            return Ok(verdict);
        }
        Ok(left(self)?.unwrap_or(Verdict::Pass))
    }

    /// What is different in the interrupted context (I6).
    pub(super) fn wrong_context(&self) -> Result<Option<Verdict>, LabError> {
        let lab = &*self.lab;
        let then = lab.reference.context;
        let mut now = whole(&lab.pc)?;
        if self.to_user() {
            // At the iretq: what it is about to load.
            let rsp = now.regs.rsp;
            let Some([rip, cs, flags, user_rsp, ss]) = lab.pc.words::<5>(rsp) else {
                return Ok(Some(Verdict::breaks(Invariant::Provenance, "the iretq's frame is not mapped")));
            };
            (now.regs.rip, now.regs.rflags, now.regs.rsp) = (rip, flags & !rflags::RF, user_rsp);
            // Selectors of the same number load the same descriptors, unless the GDT changed,
            // which is memory.
            for (was, is, selector) in [(then.sregs.cs, &mut now.sregs.cs, cs), (then.sregs.ss, &mut now.sregs.ss, ss)]
            {
                match selector == u64::from(was.selector) {
                    true => *is = was,
                    false => is.selector = selector as u16,
                }
            }
        }
        let differs = Context::of(&then).difference(&Context::of(&now));
        let differs = match differs {
            None => lab.reference.lazy.difference(&comparable(lab.pc.lazy()?)),
            some => some,
        };
        Ok(differs.map(|Difference { register, was, is }| {
            let detail = format!("the interrupted context differs: {register} was {was:#x}, and is {is:#x}");
            Verdict::breaks(Invariant::Context, detail)
        }))
    }

    /// What the kernel itself knows to be wrong.
    fn wrong_vitals(&self) -> Result<Option<Verdict>, LabError> {
        if let Some(line) = self.lab.pc.unfinished_line().filter(|_| self.lab.kernel.is_silent()) {
            return Ok(Some(complaint(&line)));
        }
        // After the heartbeat execution stands in user mode, where counts of nesting differ.
        let now = self.lab.kernel.vitals(&self.lab.pc)?;
        let at_home = !self.beaten;
        let counts = |holds| holds == Holds::Always || (holds == Holds::AtHome) == at_home;
        let pairs = self.lab.reference.vitals.iter().zip(&now).filter(|(was, _)| counts(was.holds));
        let changed = pairs.into_iter().find(|(was, is)| was != is);
        Ok(changed.map(|(was, is)| {
            let Vital { name, means, .. } = was;
            let detail = format!("the kernel {means}: {name} was {:#x}, and is {:#x}", was.value, is.value);
            Verdict::breaks(was.breaks, detail)
        }))
    }

    /// What is different in memory that no NMI may write (I7).
    fn wrong_memory(&self, changes: &[Change]) -> Option<Verdict> {
        let lab = &*self.lab;
        // What may be left to do is judged once it was to be done.
        let later = lab.reference.vitals.iter().filter(|vital| vital.holds == Holds::AtEnd);
        let later: Vec<u64> = later.filter_map(|vital| lab.pc.physical(vital.addr & !7)).collect();
        let allowed = |at| lab.reference.footprint.allows(at) || later.contains(&at);
        let wrong = changes.iter().find(|change| !allowed(change.at));
        wrong.map(|Change { at, was }| {
            let is = lab.pc.ram_word(*at);
            let stack = lab.on_interrupted_stack(*at);
            let place = if stack { "the interrupted stack".to_owned() } else { name(&lab.pc, *at) };
            let is = is.map_or("nothing".to_owned(), |is| format!("{is:#x}"));
            let detail = format!("memory that NMIs do not write has changed: {place} was {was:#x}, and is {is}");
            Verdict::breaks(Invariant::Memory, detail)
        })
    }

    /// Whether the user program goes on, and computes what it computes without NMIs.
    fn dead(&mut self) -> Result<Option<Verdict>, LabError> {
        let checksum = self.lab.pc.program().checksum;
        let limit = self.lab.limit.max(HEARTBEAT);
        let place = match self.lab.kernel.alive() {
            Alive::Heartbeat => None,
            Alive::At(place) => Some(place),
            Alive::Site => Some(self.lab.start().addr),
        };
        loop {
            let stop = self.lab.pc.run(place.as_slice(), limit)?;
            self.beaten = true;
            let verdict = match stop {
                // At CPL 3 NMIs are blocked only where the way out left them so.
                Stop::Mark | Stop::LdtMark | Stop::Heartbeat(_) if self.blocked() && self.lab.site.is_user() => {
                    Verdict::breaks(Invariant::AtRest, "NMIs are left blocked in user mode")
                }
                Stop::At(at) if Some(at) == place => return Ok(None),
                Stop::Mark | Stop::LdtMark => continue,
                Stop::Heartbeat(_) | Stop::Idle if place.is_some() => continue,
                Stop::Heartbeat(sum) => match checksum.filter(|checksum| *checksum != sum) {
                    None => return Ok(None),
                    Some(checksum) => wrong_checksum(sum.into(), checksum.into()),
                },
                other => self.broken(other),
            };
            return Ok(Some(verdict));
        }
    }

    /// Whether as many NMIs were handled as had to be (I3, I4).
    fn wrong_count(&self) -> Result<Option<Verdict>, LabError> {
        let count = self.lab.path.count(&self.lab.pc)?;
        let Some(handled) = self.handled()? else { return Ok(None) };
        if self.arrived > 0 && count == self.count_at_arrival {
            let detail = format!("lost: {} arrived, {handled} were handled, none after the last came", self.arrived);
            return Ok(Some(Verdict::breaks(Invariant::Service, detail)));
        }
        if handled > self.delivered {
            let detail = format!("{handled} were handled, {} were delivered", self.delivered);
            return Ok(Some(Verdict::breaks(Invariant::Bound, detail)));
        }
        Ok(None)
    }

    /// Whether what runs on the kernel was told of the NMIs: at least of the last. Those that arrive
    /// while one is still to be told are told of as one (I3, I4).
    fn not_passed_on(&self) -> Result<Option<Verdict>, LabError> {
        let now = self.lab.kernel.passed_on(&self.lab.pc)?;
        let Some((now, before)) = now.zip(self.passed_before) else { return Ok(None) };
        let passed = now.wrapping_sub(before);
        if self.arrived > 0 && Some(now) == self.passed_at_arrival {
            let detail = format!("lost: {} arrived, {passed} were passed on, none after the last came", self.arrived);
            return Ok(Some(Verdict::breaks(Invariant::Service, detail)));
        }
        if passed > self.delivered {
            let detail = format!("{passed} were passed on, {} were delivered", self.delivered);
            return Ok(Some(Verdict::breaks(Invariant::Bound, detail)));
        }
        Ok(None)
    }

    /// What a run that ended otherwise breaks.
    pub(super) fn broken(&mut self, stop: Stop) -> Verdict {
        let at = self.lab.show(self.lab.pc.rip());
        let fault = |detail: String| Verdict::breaks(Invariant::NoFault, detail);
        match stop {
            Stop::Oops(line) => {
                log::info!("at {at} < {}: {}", self.lab.pc.callers(4).join(" < "), self.lab.pc.console_tail(4));
                complaint(&line)
            }
            Stop::Shutdown => Verdict::Shutdown { detail: format!("triple fault at {at}") },
            Stop::Budget => self.hung(),
            Stop::Reset => fault("the kernel reset the machine".into()),
            Stop::Dead => fault(format!("the CPU halted for good at {at}")),
            Stop::Idle => Verdict::breaks(Invariant::Progress, "the CPU is idle, and nothing will wake it"),
            Stop::Failed(why) => Verdict::HostLimit { why },
            other => fault(format!("{other:?} at {at}")),
        }
    }

    /// The verdict on a case that has used up its CPU time. Where execution stands then depends on
    /// how fast the host is; where it goes round does not.
    pub(super) fn hung(&mut self) -> Verdict {
        let limit = self.lab.limit.as_millis();
        let round = self.goes_round();
        self.lab.went_round = round.is_some();
        let round = round.map_or(String::new(), |names| format!(", but goes round in {}", names.join(", ")));
        Verdict::Livelock { detail: format!("not over after {limit} ms of CPU time{round}") }
    }

    /// The functions that execution goes through over and over: those that it goes through in so many
    /// instructions, and in as many again. `None` where it is not the same ones, or it goes ever
    /// deeper into a stack, which has an end.
    fn goes_round(&mut self) -> Option<Vec<String>> {
        const ROUND: usize = 1500;
        let pc = &mut self.lab.pc;
        let mut look = || {
            let (mut seen, mut deepest) = (std::collections::BTreeSet::new(), u64::MAX);
            for _ in 0..ROUND {
                seen.insert(pc.symbols.at_or_before(pc.rip())?);
                deepest = deepest.min(pc.state().regs.rsp);
                match pc.step() {
                    Ok(Stop::At(_)) => {}
                    _ => return None,
                }
            }
            Some((seen, deepest))
        };
        let (once, twice) = (look()?, look()?);
        (once == twice).then(|| once.0.into_iter().map(|at| self.lab.pc.symbols.show(at)).collect())
    }
}
