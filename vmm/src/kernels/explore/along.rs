//! One edge of the search: what happens at a boundary, and the instructions from there to where
//! something else can happen.

use std::collections::HashMap;

use super::counters::{accesses, reads};
use super::machine::Search;
use super::paths::Edge;
use super::state::{Ghost, State};
use super::traced::Following;
use crate::image::Flow;
use crate::inject::{At, Event};
use crate::kernels::case::Step;
use crate::kernels::error::LabError;
use crate::oracle::{Invariant, Verdict};

/// Instructions that are executed as one edge, at most: so a run without an end has a state that
/// repeats.
const LONGEST_EDGE: u32 = 4096;

/// What came of an edge.
pub enum Taken {
    State(Box<State>),
    /// It broke a rule, as far as the search can tell.
    Broken(Verdict),
    /// Nothing can be claimed, and why.
    Open(String),
}

/// Where an edge has led, and how.
pub struct Along {
    pub taken: Taken,
    /// The instructions on the way, as a number.
    pub code: u64,
    /// How many.
    pub instructions: u32,
    /// An iretq has led back to the context that was asked for.
    pub back: bool,
}

/// What happened at one boundary.
enum Gone {
    On { ghost: Ghost, deep: bool, returned: bool },
    Ended(Taken),
}

impl Search<'_> {
    /// Follows an edge to the next state that is kept: one where something else than the next
    /// instruction can happen. `following` carries where values come from, and says which context
    /// is to be come back to.
    pub fn along(
        &mut self,
        from: &State,
        edge: Edge,
        mut following: Option<&mut Following<'_>>,
    ) -> Result<Along, LabError> {
        self.load(from)?;
        let context = following.as_deref().map(|f| f.context);
        if let Some(f) = following.as_deref_mut() {
            f.begin(from);
        }
        let mut code = xxhash_rust::xxh3::Xxh3Default::new();
        let (mut edge, mut ghost, mut deep) = (edge, from.ghost, false);
        let mut left = LONGEST_EDGE;
        let (taken, back) = loop {
            let before = self.run.lab.pc.rip();
            // Where an event arrives, the instruction is not executed.
            code.update(&edge.kind().map_or(before, |kind| kind as u64).to_le_bytes());
            if let Some(f) = following.as_deref_mut()
                && let Err(why) = f.before(self, edge, ghost)?
            {
                break (Taken::Open(why), false);
            }
            let returned = match self.go(ghost, edge, following.is_some())? {
                Gone::Ended(taken) => break (taken, false),
                Gone::On { ghost: now, deep: changes, returned } => {
                    (ghost, deep) = (now, deep | changes);
                    returned
                }
            };
            self.run.latched = ghost.latched;
            if let Some(f) = following.as_deref_mut()
                && let Err(why) = f.after(&self.run.lab.pc)
            {
                let at = self.run.lab.pc.symbols.show(before);
                break (Taken::Open(format!("{why}, at {at}")), false);
            }
            let regs = &self.run.lab.pc.state().regs;
            if let Some(visits) = self.visits.as_mut().filter(|_| !matches!(edge, Edge::Latch | Edge::Unmask)) {
                *visits.entry(regs.rip).or_default() += 1;
            }
            let back = returned && context == Some((regs.rip, regs.rsp)) && !self.run.blocked();
            let home = self.is_home(ghost);
            left -= 1;
            let only_on = self.edges(ghost, home) == [Some(Edge::On), None, None, None, None];
            if self.stepped || back || home || !only_on || left == 0 {
                let lab = &mut *self.run.lab;
                let state = self.store.capture(&mut lab.pc, &lab.snapshot, ghost, &self.run.away, deep)?;
                if let Some(f) = following.as_deref_mut()
                    && let Err(why) = f.end(from, &state, &lab.snapshot)
                {
                    break (Taken::Open(why), false);
                }
                break (Taken::State(Box::new(state)), back);
            }
            edge = Edge::On;
            self.run.restart_clock()?;
        };
        Ok(Along { taken, code: code.digest(), instructions: LONGEST_EDGE - left, back })
    }

    /// Carries out what happens at the boundary where the machine stands.
    fn go(&mut self, mut ghost: Ghost, edge: Edge, followed: bool) -> Result<Gone, LabError> {
        let ended = |taken| Ok(Gone::Ended(taken));
        let (before, given_before) = (self.run.lab.path.count(&self.run.lab.pc)?, self.run.delivered);
        let from = self.run.lab.pc.rip();
        let code = self.code();
        let (mut deep, mut returned) = (false, false);
        let step = match edge {
            Edge::Start | Edge::Through(_) => Step::On,
            Edge::Latch => {
                ghost = ghost.arrived();
                Step::On
            }
            Edge::Unmask => {
                self.run.lab.pc.state_mut().events.nmi.masked = 0;
                Step::On
            }
            Edge::Fault => {
                ghost.faulted = true;
                self.run.fault()?
            }
            Edge::Nmi => {
                ghost = ghost.arrived().delivered();
                self.run.deliver()?
            }
            Edge::On if ghost.latched && (!self.run.blocked() || self.run.to_user()) => {
                if self.run.to_user()
                    && let Some(verdict) = self.run.wrong_context()?
                {
                    return ended(Taken::Broken(verdict));
                }
                ghost = ghost.delivered();
                self.run.deliver()?
            }
            Edge::On => {
                let Some(code) = &code else {
                    return ended(Taken::Open(format!("no instruction at {from:#x}")));
                };
                let pc = &self.run.lab.pc;
                let at = || pc.symbols.show(from);
                let unknown = || Taken::Open(format!("it is not known what is accessed, at {}", at()));
                let Some(accesses) = accesses(pc, &code.decoded, &mut self.factory) else {
                    return ended(unknown());
                };
                if self.counters.are_broken_by(&code.decoded, &accesses) {
                    return ended(Taken::Open(format!(
                        "a word that was taken for a counter is looked at, at {}",
                        at()
                    )));
                }
                if accesses.iter().any(|bytes| self.stack.is_dead(ghost.dead, *bytes)) {
                    return ended(Taken::Open(format!("a frame that was held for dead is accessed, at {}", at())));
                }
                // What is read is asked only of the few instructions that touch that page.
                if !followed && accesses.iter().any(|(at, _)| self.stack.has(*at)) {
                    let Some(reads) = reads(pc, &code.decoded, &mut self.factory) else { return ended(unknown()) };
                    self.live.extend(self.stack.saved(reads));
                }
                (deep, returned) = (code.deep, code.decoded.flow == Flow::Iret);
                ghost.faulted &= self.fault.is_none_or(|fault| fault.addr != from);
                self.run.step()?
            }
        };
        if let Step::Over(verdict) = step {
            return ended(match verdict {
                Verdict::HostLimit { why } => Taken::Open(why),
                verdict => Taken::Broken(verdict),
            });
        }
        let lab = &mut *self.run.lab;
        if code.is_some_and(|code| code.device) && !lab.pc.devices_are_as_in(&lab.snapshot) {
            let at = lab.pc.symbols.show(from);
            return ended(Taken::Open(format!("the state of a device changes, at {at}")));
        }
        // A kernel that does not count them has handled what it was given.
        let given = u32::from(self.run.delivered > given_before);
        let lab = &*self.run.lab;
        let by = lab.path.count(&lab.pc)?.zip(before).map_or(given, |(now, before)| now.wrapping_sub(before));
        let Some(mut ghost) = ghost.counted(by) else {
            return ended(Taken::Broken(Verdict::breaks(Invariant::Bound, "more were handled than were delivered")));
        };
        let regs = &lab.pc.state().regs;
        ghost.dead = self.stack.after(ghost.dead, returned, regs.rip, regs.rsp);
        Ok(Gone::On { ghost, deep, returned })
    }

    /// The schedule of a way from where the search begins, and then of one more edge: the way is
    /// executed, since a boundary is named by how often it was come to.
    pub fn schedule(&mut self, start: &State, way: &[Edge], last: Edge) -> Result<Vec<Event>, LabError> {
        let mut events = Vec::new();
        let mut state = start.clone();
        self.visits = Some(HashMap::from([(start.vcpu.regs.rip, 1)]));
        for (i, edge) in way.iter().chain([&last]).enumerate() {
            let addr = state.vcpu.regs.rip;
            let lost = |search: &Self| LabError::Way(search.run.lab.show(addr));
            if let Some(kind) = edge.kind() {
                let n = self.visits.as_ref().and_then(|visits| visits.get(&addr)).copied();
                events.push(Event { kind, at: At { addr, n: n.ok_or_else(|| lost(self))? } });
            }
            match self.along(&state, *edge, None)?.taken {
                Taken::State(next) => state = *next,
                Taken::Broken(_) | Taken::Open(_) if i == way.len() => {}
                Taken::Broken(_) | Taken::Open(_) => return Err(lost(self)),
            }
        }
        self.visits = None;
        Ok(events)
    }
}
