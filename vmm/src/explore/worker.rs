//! A thread's machine: follows one edge at a time.
//!
//! The model of the CPU executes it. What it has not executed before, KVM executes once,
//! too, from the same state, and must come to the same state.

use std::collections::{HashMap, HashSet};

use super::config::{Config, Deviation, Error};
use super::live::{Liveness, Point};
use super::packed::{Packed, Packer, keep};
use super::path::{self, Lookout, Reductions};
use super::states::{Edge, Id, States};
use crate::cpu::{Difference, Traced};
use crate::inject::Session;
use crate::inject::coverage::Stand;
use crate::kvm::VcpuState;
use crate::machine::Engine;
use crate::oracle::{Context, Verdict};

/// Most deviations that are kept for the report.
const MOST_DEVIATIONS: usize = 16;

/// A thread's machine.
pub(super) struct Worker {
    pub session: Session,
    pub packer: Packer,
    /// Which stack words are dead.
    pub look: Lookout,
    /// Chains of instructions that KVM has executed.
    confirmed: HashMap<u128, Confirmed>,
    /// Where the last traced edge ended.
    point: (Point, u64),
    /// Where KVM came to another state than the model.
    pub deviations: Vec<Deviation>,
    /// The first place where an instruction has left poison in a register: it has read a word
    /// that was held for dead.
    pub poison_at: Option<u64>,
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

/// Sets of values that KVM executes each chain with, whenever they are met. After these it is once
/// more at the chain's 2nd, 4th, 8th … edge.
const MOST_VALUES: usize = 16;

/// How a chain was confirmed.
#[derive(Default)]
struct Confirmed {
    /// Edges that executed it.
    edges: u64,
    /// Numbers of the values that it read, registers included, while they are few.
    values: HashSet<u64>,
}

impl Confirmed {
    /// The chain is met again, with these values. Whether KVM is to execute it.
    fn wants(&mut self, values: u64) -> bool {
        self.edges += 1;
        let new = self.values.len() < MOST_VALUES && self.values.insert(values);
        new || self.edges.is_power_of_two()
    }
}

/// How KVM's state is not the model's.
enum Differs {
    /// In words.
    Says(String),
    /// Not in the CPU's registers.
    Elsewhere,
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
    pub fn new(mut session: Session, config: &Config) -> Self {
        let reductions = config.reductions;
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
        let mut live = if reductions.merge_dead && model { Liveness::new(&session) } else { None };
        live.iter_mut().for_each(|live| live.blind = config.blind);
        let point = (Point::of(&session), 0);
        let look = Lookout { live, ..Lookout::default() };
        Self {
            session,
            packer,
            look,
            confirmed: HashMap::new(),
            point,
            deviations: Vec::new(),
            poison_at: None,
            sample: 1,
            stacks,
            deepest,
        }
    }

    /// Poisons dead words from now on, or none. Returns how many.
    pub fn poison(&mut self, on: bool) -> usize {
        self.session.reset();
        self.poison_at = None;
        self.packer.poison(&self.session, self.look.live.as_ref().filter(|_| on))
    }

    /// Keeps the state that was looked at last.
    pub fn pack(&mut self) -> Packed {
        self.packer.pack(&self.session, self.look.live.as_ref())
    }

    /// Where an edge from `state` has led is looked at.
    fn look_after(&mut self, state: &Packed) {
        match &self.look.written {
            Some(written) => self.packer.look_after(&self.session, state, written),
            None => self.packer.look(&self.session),
        }
        self.look_for_poison();
    }

    /// Where the session stands is looked at.
    pub fn look(&mut self) {
        self.packer.look(&self.session);
        self.look_for_poison();
    }

    fn look_for_poison(&mut self) {
        if self.poison_at.is_none() && self.packer.spreads(&self.session) {
            self.poison_at = Some(self.session.machine().rip());
        }
    }

    /// The hash of the state that was looked at last.
    pub fn hash(&mut self) -> u128 {
        self.packer.hash(&self.session, self.look.live.as_ref())
    }

    /// The chains that KVM has executed, too.
    pub fn confirmed(&self) -> impl Iterator<Item = &u128> {
        self.confirmed.keys()
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
        if !path::exists(state, &self.session, edge, reductions) {
            return Ok(None);
        }
        if edge.event().is_some() && state.ghost().outer.is_none() && !id.is_multiple_of(self.sample) {
            return Ok(None); // this round only learns
        }
        self.packer.unpack(state, &mut self.session);
        let stand = Stand::of(&self.session);
        let time_reads = self.session.machine().time_reads();
        let nesting = path::follow(&mut self.session, edge, reductions, Some(&mut self.look))?;
        self.look_after(state);
        let to = match self.session.take_verdict() {
            Some(verdict) => To::Ends(verdict),
            None => {
                let hash = self.hash();
                self.note_stacks();
                match known.get(hash) {
                    Some(_) => To::Known(hash),
                    None => To::New(hash, self.pack()),
                }
            }
        };
        // What has read time goes another way the next time, by the model as on KVM.
        if self.session.machine().time_reads() == time_reads {
            self.confirm(state, edge, reductions, &to)?;
        }
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
        let time_reads = self.session.machine().time_reads();
        self.session.set_trace(Some(trace));
        let nesting = path::follow(&mut self.session, edge, reductions, Some(&mut self.look))?;
        let Some(mut trace) = self.session.take_trace() else { return Ok(None) };
        trace.settle();
        self.look_after(state);
        let outermost = self.session.oracle().ghost.outer.is_none();
        let verdict = self.session.take_verdict();
        let hash = self.hash();
        self.note_stacks();
        self.point = (Point::of(&self.session), keep(&self.session));
        let packed = verdict.is_none().then(|| self.pack());
        if verdict.is_none() && self.session.machine().time_reads() == time_reads {
            self.confirm(state, edge, reductions, &To::Known(hash))?;
        }
        Ok(Some(Traveled { trace, nesting, stand, outermost, verdict, hash, state: packed }))
    }

    /// Whether a byte at this physical address tells states apart where the last traced edge
    /// ended: it is not of a dead word.
    pub fn matters(&self, paddr: u64) -> bool {
        let (point, keep) = self.point;
        let watched = &self.session.rules().watched;
        self.look.live.as_ref().is_none_or(|live| live.matters(point, keep, paddr, |index| watched.vaddr(index * 8)))
    }

    /// Has KVM execute what the model has just executed, where it is a chain that it has not
    /// executed yet, or not with such values.
    pub fn confirm(&mut self, state: &Packed, edge: Edge, reductions: Reductions, to: &To) -> Result<(), Error> {
        if self.session.machine().engine() != Engine::Model {
            return Ok(());
        }
        let chain = self.look.chain.number(edge.event().map_or(0, |kind| 1 + kind as u64));
        let values = self.look.chain.values() ^ state.registers();
        if !self.confirmed.entry(chain).or_default().wants(values) {
            return Ok(());
        }
        let whole = self.packer.hash(&self.session, None);
        let predicted = *self.session.machine().state();
        let mut differs = None;
        // A free run does not see all that the model sees, so a step decides where they differ.
        for stepped in [false, true] {
            self.packer.unpack(state, &mut self.session);
            self.session.set_engine(Engine::Kvm);
            let followed = match stepped {
                false => path::follow_freely(&mut self.session, edge, reductions),
                true => path::follow_stepped(&mut self.session, edge, reductions),
            };
            self.session.set_engine(Engine::Model);
            match followed {
                // Where a rule is broken before the contract is, a step sees that.
                Err(crate::machine::Error::Contract(_)) if !stepped => continue,
                end => end?,
            }
            self.packer.look(&self.session);
            differs = self.differs(to, whole, &predicted);
            if differs.is_none() {
                break;
            }
        }
        let at = state.rip();
        if let Some(what) = differs.filter(|_| self.deviations.len() < MOST_DEVIATIONS) {
            let what = match what {
                Differs::Says(what) => what,
                Differs::Elsewhere => self.elsewhere(state, edge, reductions)?,
            };
            self.deviations.push(Deviation { at, edge, what });
        }
        Ok(())
    }

    /// How what KVM came to, which is at hand, is not what the model predicted.
    fn differs(&mut self, to: &To, whole: u128, predicted: &VcpuState) -> Option<Differs> {
        let says = |what| Some(Differs::Says(what));
        match (to, self.session.take_verdict()) {
            (To::Ends(predicted), Some(saw)) if predicted.kind() == saw.kind() => None,
            (To::Ends(predicted), None) => says(format!("the model says {predicted}, and KVM goes on")),
            (To::Ends(predicted), Some(saw)) => says(format!("the model says {predicted}, and KVM {saw}")),
            (_, Some(saw)) => says(format!("KVM says {saw}, and the model goes on")),
            (_, None) if self.packer.hash(&self.session, None) == whole => None,
            (_, None) => {
                let (model, kvm) = (Context::of(predicted), Context::of(self.session.machine().state()));
                Some(model.difference(&kvm).map_or(Differs::Elsewhere, |Difference { register, was, is }| {
                    Differs::Says(format!("{register} is {was:#x} by the model, and {is:#x} on KVM"))
                }))
            }
        }
    }

    /// Where KVM's memory, which is at hand, is not the model's: the model executes it again.
    fn elsewhere(&mut self, state: &Packed, edge: Edge, reductions: Reductions) -> Result<String, Error> {
        let kvm = self.session.machine().memory().0.to_vec();
        self.packer.unpack(state, &mut self.session);
        path::follow(&mut self.session, edge, reductions, None)?;
        self.packer.look(&self.session);
        let _ = self.session.take_verdict();
        let model = self.session.machine().memory().0;
        let at = (0..model.len()).step_by(8).find(|at| model[*at..at + 8] != kvm[*at..at + 8]);
        Ok(match at {
            Some(at) => format!(
                "physical {at:#x} holds {:02x?} by the model, and {:02x?} on KVM",
                &model[at..at + 8],
                &kvm[at..at + 8]
            ),
            None => "events or what the oracle saw is not the same by the model and on KVM".into(),
        })
    }

    fn note_stacks(&mut self) {
        for (range, deepest) in self.stacks.iter().zip(&mut self.deepest) {
            if let Some(at) = self.packer.lowest_change(range) {
                *deepest = (*deepest).min(at);
            }
        }
    }
}

/// Brings together what the workers have seen of the stacks. `true` where words are
/// live that the search took for dead.
pub(super) fn more_is_live(workers: &mut [Worker]) -> bool {
    let (first, rest) = workers.split_at_mut(1);
    let Some(live) = first[0].look.live.as_mut() else { return false };
    rest.iter().filter_map(|w| w.look.live.as_ref()).for_each(|other| live.absorb(other));
    let more = live.settle();
    rest.iter_mut().filter_map(|w| w.look.live.as_mut()).for_each(|other| other.adopt(live));
    more
}
