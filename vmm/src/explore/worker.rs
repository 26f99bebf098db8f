//! A thread's machine: follows one edge at a time.
//!
//! The model of the CPU executes it. What it has not executed before, KVM executes once,
//! too, from the same state, and must come to the same state.

use std::collections::HashSet;

use super::config::{Deviation, Error};
use super::live::{Liveness, Point};
use super::packed::{Packed, Packer};
use super::path::{self, Lookout, Reductions};
use super::states::{Edge, Id, States};
use crate::cpu::Traced;
use crate::inject::Session;
use crate::inject::coverage::Stand;
use crate::machine::Engine;
use crate::oracle::Verdict;

/// Most deviations that are kept for the report.
const MOST_DEVIATIONS: usize = 16;

/// A thread's machine.
pub(super) struct Worker {
    pub session: Session,
    pub packer: Packer,
    /// Which stack words are dead.
    pub look: Lookout,
    /// Chains of instructions that KVM has executed.
    confirmed: HashSet<u128>,
    /// Where the last traced edge ended.
    point: (Point, u64),
    /// Where KVM came to another state than the model.
    pub deviations: Vec<Deviation>,
    /// One in so many states of the interrupted code has arrivals (1: all).
    pub sample: u32,
    /// Offsets of the declared stacks in the writable pages.
    pub stacks: Vec<std::ops::Range<usize>>,
    /// Where each was written lowest.
    pub deepest: Vec<usize>,
}

/// Where an edge leads.
pub(super) enum To {
    Known(u128),
    New(u128, Packed),
    Ends(Verdict),
}

/// Where an edge has led.
pub(super) struct Reached {
    pub from: Id,
    pub edge: Edge,
    pub to: To,
    pub stand: Stand,
    pub nesting: u32,
}

/// Where a traced edge has led.
pub(super) struct Traveled {
    pub trace: Box<Traced>,
    pub nesting: u32,
    pub stand: Stand,
    /// No NMI is live where it has led.
    pub outermost: bool,
    pub verdict: Option<Verdict>,
    pub hash: u128,
    pub state: Option<Packed>,
}

impl Worker {
    pub fn new(mut session: Session, reductions: Reductions) -> Self {
        let packer = Packer::new(&mut session);
        let watched = &session.rules().watched;
        let stacks: Vec<_> = session.rules().guest.image.declared.stacks.iter().map(|s| &s.range).collect();
        let range = |r: &&std::ops::Range<u64>| {
            let start = watched.offset(r.start);
            start.map_or(0..0, |start| start..start + (r.end - r.start) as usize)
        };
        let stacks: Vec<_> = stacks.iter().map(range).collect();
        let deepest = stacks.iter().map(|s| s.end).collect();
        if reductions.model && session.machine().can_predict() {
            session.set_engine(Engine::Model);
        }
        // Only the model says what an instruction reads.
        let model = session.machine().engine() == Engine::Model;
        let live = if reductions.merge_dead && model { Liveness::new(&session) } else { None };
        let point = (Point::of(&session), 0);
        let look = Lookout { live, ..Lookout::default() };
        Self {
            session,
            packer,
            look,
            confirmed: HashSet::new(),
            point,
            deviations: Vec::new(),
            sample: 1,
            stacks,
            deepest,
        }
    }

    /// The hash of the state that was looked at last.
    pub fn hash(&mut self) -> u128 {
        self.packer.hash(&self.session, self.look.live.as_ref())
    }

    /// How many chains KVM has executed, too.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.len() as u64
    }

    /// Follows one edge from `state`. `None` where the edge does not exist there.
    pub fn follow(
        &mut self,
        id: Id,
        state: &Packed,
        edge: Edge,
        reductions: Reductions,
        known: &States,
    ) -> Result<Option<Reached>, Error> {
        if !path::exists(state, self.session.machine().mode(), edge, reductions) {
            return Ok(None);
        }
        if edge.event().is_some() && state.outermost() && !id.is_multiple_of(self.sample) {
            return Ok(None); // this round only learns
        }
        self.packer.unpack(state, &mut self.session);
        let stand = Stand::of(&self.session);
        let nesting = path::follow(&mut self.session, edge, reductions, Some(&mut self.look))?;
        self.packer.look(&self.session);
        let to = match self.session.take_verdict() {
            Some(verdict) => To::Ends(verdict),
            None => {
                let hash = self.hash();
                self.note_stacks();
                match known.get(hash) {
                    Some(_) => To::Known(hash),
                    None => To::New(hash, self.packer.pack(&self.session)),
                }
            }
        };
        self.confirm(state, edge, reductions, &to)?;
        Ok(Some(Reached { from: id, edge, to, stand, nesting }))
    }

    /// Follows one edge from `state`, and where values come from. `None` where that cannot be
    /// followed.
    pub fn follow_traced(
        &mut self,
        state: &Packed,
        edge: Edge,
        reductions: Reductions,
        trace: Box<Traced>,
    ) -> Result<Option<Traveled>, Error> {
        self.packer.unpack(state, &mut self.session);
        let stand = Stand::of(&self.session);
        self.session.set_trace(Some(trace));
        let nesting = path::follow(&mut self.session, edge, reductions, Some(&mut self.look))?;
        let Some(mut trace) = self.session.take_trace() else { return Ok(None) };
        trace.settle();
        self.packer.look(&self.session);
        let outermost = self.session.oracle().ghost.outer.is_none();
        let verdict = self.session.take_verdict();
        let hash = self.hash();
        self.note_stacks();
        self.point = (Point::of(&self.session), self.keep());
        let packed = verdict.is_none().then(|| self.packer.pack(&self.session));
        if verdict.is_none() {
            self.confirm(state, edge, reductions, &To::Known(hash))?;
        }
        Ok(Some(Traveled { trace, nesting, stand, outermost, verdict, hash, state: packed }))
    }

    fn keep(&self) -> u64 {
        let rsp = self.session.machine().state().regs.rsp;
        self.session.oracle().ghost.outer.map_or(rsp, |outer| outer.rsp())
    }

    /// Whether a byte at this physical address tells states apart where the last traced edge
    /// ended: it is not of a dead word.
    pub fn matters(&self, paddr: u64) -> bool {
        let (point, keep) = self.point;
        let watched = &self.session.rules().watched;
        self.look.live.as_ref().is_none_or(|live| live.matters(point, keep, paddr, |index| watched.vaddr(index * 8)))
    }

    /// Has KVM execute what the model has just executed, where it is a chain that it has not
    /// executed yet.
    fn confirm(&mut self, state: &Packed, edge: Edge, reductions: Reductions, to: &To) -> Result<(), Error> {
        if self.session.machine().engine() != Engine::Model {
            return Ok(());
        }
        let chain = self.look.chain.number(u64::from(edge.event().is_some()));
        if !self.confirmed.insert(chain) {
            return Ok(());
        }
        let whole = self.packer.hash(&self.session, None);
        let predicted = *self.session.machine().state();
        self.packer.unpack(state, &mut self.session);
        let at = self.session.machine().rip();
        self.session.set_engine(Engine::Kvm);
        let followed = path::follow(&mut self.session, edge, reductions, None);
        self.session.set_engine(Engine::Model);
        followed?;
        self.packer.look(&self.session);
        let kind = |verdict: Option<&Verdict>| verdict.map(Verdict::kind);
        let saw = self.session.take_verdict();
        let differs = match (to, saw) {
            (To::Ends(predicted), saw) if kind(Some(predicted)) == kind(saw.as_ref()) => None,
            (To::Ends(predicted), None) => Some(format!("the model says {predicted}, and KVM goes on")),
            (To::Ends(predicted), Some(saw)) => Some(format!("the model says {predicted}, and KVM {saw}")),
            (_, Some(saw)) => Some(format!("KVM says {saw}, and the model goes on")),
            (_, None) if self.packer.hash(&self.session, None) == whole => None,
            (_, None) => Some(self.difference(&predicted)),
        };
        if let Some(what) = differs.filter(|_| self.deviations.len() < MOST_DEVIATIONS) {
            self.deviations.push(Deviation { at, edge, what });
        }
        Ok(())
    }

    /// In what KVM's state, which is at hand, is not the predicted one.
    fn difference(&self, predicted: &crate::kvm::VcpuState) -> String {
        use crate::oracle::Context;
        let (model, kvm) = (Context::of(predicted), Context::of(self.session.machine().state()));
        match model.difference(&kvm) {
            Some((name, model, kvm)) => format!("{name} is {model:#x} by the model, and {kvm:#x} on KVM"),
            None => "memory, events or what the oracle saw is not the same by the model and on KVM".into(),
        }
    }

    fn note_stacks(&mut self) {
        for (range, deepest) in self.stacks.iter().zip(&mut self.deepest) {
            if let Some(at) = self.packer.lowest_change(range) {
                *deepest = (*deepest).min(at);
            }
        }
    }
}
