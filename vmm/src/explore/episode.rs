//! One episode: its class, its search, and its endings, on one worker.

use std::collections::{BTreeMap, HashSet};

use super::class::{Class, Ending, Key};
use super::config::{Bound, Error};
use super::packed::Packed;
use super::path::{self, Reductions};
use super::states::{Edge, Id, Next, States};
use super::worker::{To, Traveled, Worker};
use crate::cpu::Traced;
use crate::inject::coverage::{Coverage, Stand};
use crate::oracle::Verdict;

/// States of one episode beyond which following values costs more than it saves.
const MOST_STATES: usize = 20_000;

/// Why a round ends before nothing new appears.
pub(super) enum Ended {
    /// A limit was hit.
    Bound(Bound),
    /// It is no proof: something cannot be followed.
    Open(String),
    /// A rule was broken.
    Broken(Verdict),
}

/// A context with no NMI live, in which one arrives.
pub(super) struct Context {
    pub id: Id,
    /// Arrivals and edges to it.
    pub at: (u32, u32),
    pub state: Packed,
    /// What begins the episode: an arrival, or the step that delivers a latched NMI.
    pub first: Edge,
}

/// Whether a context has a class already.
pub(super) struct Found {
    /// Its place among the classes of the context's kind.
    pub class: Option<usize>,
    /// One of them executes the instruction that the context stands at.
    pub executed: bool,
}

/// How far to search.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub reductions: Reductions,
    /// States of this episode.
    pub states: usize,
}

/// A searched episode.
pub(super) struct Searched {
    pub class: Class,
    pub states: u64,
    pub edges: u64,
    pub merged: u64,
    pub max_nesting: u32,
    pub coverage: Coverage,
    /// It comes back to a state that it was in.
    pub goes_round: bool,
}

/// Where a way to end has led.
pub(super) struct Executed {
    /// The instructions on the way, as a number.
    pub code: u128,
    pub hash: u128,
    /// The state, unless it was known before.
    pub state: Option<Packed>,
}

impl Context {
    /// What contexts that are alike always agree in, and where execution stands.
    pub fn look(&self, worker: &mut Worker) -> (Key, Stand) {
        worker.packer.unpack(&self.state, &mut worker.session);
        (Key::of(&worker.session, self.first), Stand::of(&worker.session))
    }

    /// The context's class among those of its kind.
    pub fn class(&self, worker: &mut Worker, known: Option<&Vec<Class>>) -> Found {
        let Some(known) = known else { return Found { class: None, executed: false } };
        worker.packer.unpack(&self.state, &mut worker.session);
        let class = known.iter().position(|class| class.fits(&worker.session));
        let executed = class.is_none() && known.iter().any(|class| class.executes(&worker.session, self.state.rip()));
        if let (None, Some(first)) = (class, known.first()) {
            log::debug!("another class: {}", first.misfit(&worker.session));
        }
        Found { class, executed }
    }

    /// Whether this round, which only learns, leaves it out unless it has a class already.
    pub fn is_left_out(&self, sample: u32) -> bool {
        self.first == Edge::NMI && !self.id.is_multiple_of(sample)
    }

    /// Searches the episode. An error value says why the round ends.
    pub fn search(
        &self,
        worker: &mut Worker,
        limits: Limits,
        bound: &impl Fn(&mut Worker) -> Option<Bound>,
    ) -> Result<Result<Searched, Ended>, Error> {
        worker.packer.unpack(&self.state, &mut worker.session);
        let mut episode = Episode::begin(Class::begin(&worker.session), &self.state);
        worker.look.fetched = Some(HashSet::new());
        while let Some((at, wave)) = episode.waves.pop_first() {
            for (id, state) in &wave {
                for edge in limits.reductions.edges().filter(|e| *id != 0 || *e == self.first) {
                    if !path::exists(state, &worker.session, edge, limits.reductions) {
                        continue;
                    }
                    let trace = episode.traces[*id as usize].clone();
                    let Some(step) = worker.follow_traced(state, edge, limits.reductions, trace)? else {
                        let why = "a hypercall or an instruction cannot be followed";
                        return Ok(Err(Ended::Open(why.into())));
                    };
                    if let Some(verdict) = step.verdict {
                        return Ok(Err(Ended::Broken(verdict)));
                    }
                    episode.take(worker, at, (*id, edge), step);
                }
            }
            if let Some(bound) = bound(worker) {
                return Ok(Err(Ended::Bound(bound)));
            }
            if episode.states.len() > limits.states {
                return Ok(Err(Ended::Bound(Bound::States)));
            }
            if episode.states.len() > MOST_STATES {
                return Ok(Err(Ended::Open(format!("an episode has more than {MOST_STATES} states"))));
            }
        }
        worker.packer.unpack(&self.state, &mut worker.session);
        let Some(fetched) = worker.look.fetched.take() else {
            return Ok(Err(Ended::Open("it is not known which instructions an episode executes".into())));
        };
        Ok(Ok(episode.finish(worker, fetched)))
    }

    /// Executes one way that the episode ends. An error value is what is wrong.
    pub fn end(
        &self,
        worker: &mut Worker,
        way: &[Edge],
        reductions: Reductions,
        known: &States,
    ) -> Result<Result<Executed, Ended>, Error> {
        worker.packer.unpack(&self.state, &mut worker.session);
        let mut code = 0u128;
        let time_reads = worker.session.machine().time_reads();
        for edge in way {
            path::follow(&mut worker.session, *edge, reductions, Some(&mut worker.look))?;
            if worker.session.verdict().is_some() {
                break;
            }
            code = code.rotate_left(1) ^ worker.look.chain.number(0);
        }
        if let Some(verdict) = worker.session.take_verdict() {
            return Ok(Err(Ended::Broken(verdict)));
        }
        if worker.session.oracle().ghost.outer.is_some() {
            return Ok(Err(Ended::Open("an episode does not end as those of its class".into())));
        }
        worker.look();
        let hash = worker.hash();
        let state = known.get(hash).is_none().then(|| worker.pack());
        if let ([edge], true) = (way, worker.session.machine().time_reads() == time_reads) {
            worker.confirm(&self.state, *edge, reductions, &To::Known(hash))?;
        }
        Ok(Ok(Executed { code, hash, state }))
    }
}

/// The search of an episode under way.
struct Episode {
    class: Class,
    /// What was looked at on any path.
    all: Traced,
    states: States,
    /// Where values come from in each state, for when it is met again.
    traces: Vec<Box<Traced>>,
    /// What is not expanded yet, by arrivals and edges.
    waves: BTreeMap<(u32, u32), Vec<(Id, Packed)>>,
    edges: u64,
    merged: u64,
    max_nesting: u32,
    coverage: Coverage,
}

impl Episode {
    fn begin(class: Class, root: &Packed) -> Self {
        let mut states = States::default();
        states.add(0, 0, Edge::Step);
        Self {
            class,
            all: Traced::new(),
            states,
            traces: vec![Box::default()],
            waves: BTreeMap::from([((0, 0), vec![(0, root.clone())])]),
            edges: 0,
            merged: 0,
            max_nesting: 0,
            coverage: Coverage::default(),
        }
    }

    /// Takes note of where an edge has led. The worker stands there.
    fn take(&mut self, worker: &Worker, (arrivals, edges): (u32, u32), (id, edge): (Id, Edge), mut step: Traveled) {
        let at_root = id == 0;
        self.edges += 1;
        self.max_nesting = self.max_nesting.max(step.nesting);
        if !at_root {
            self.coverage.note(step.stand, edge == Edge::NMI);
        }
        self.all.take_looks(&mut step.trace);
        if step.outermost {
            if edge == Edge::Step && !at_root {
                self.states.set_next(id, Next::End);
            }
            match self.class.endings.iter_mut().find(|e| e.hash == step.hash) {
                Some(known) => {
                    known.trace.join(&step.trace, |paddr| worker.matters(paddr));
                    self.all.take_looks(&mut known.trace);
                }
                None => {
                    let way = self.states.path(id).into_iter().chain([edge]).collect();
                    self.class.endings.push(Ending { way, hash: step.hash, trace: step.trace, code: None });
                }
            }
            return;
        }
        let at = (arrivals + u32::from(edge.event().is_some()), edges + 1);
        let new = self.states.add(step.hash, id, edge);
        let to = new.or_else(|| self.states.get(step.hash)).unwrap_or(id);
        if edge == Edge::Step && !at_root {
            self.states.set_next(id, Next::State(to));
        }
        match (new, step.state) {
            (Some(new), Some(state)) => {
                self.traces.push(step.trace);
                self.waves.entry(at).or_default().push((new, state));
            }
            _ => {
                self.merged += 1;
                let known = &mut self.traces[to as usize];
                known.join(&step.trace, |paddr| worker.matters(paddr));
                self.all.take_looks(known);
            }
        }
    }

    /// Nothing is left to expand. The worker stands in the context that was searched.
    fn finish(mut self, worker: &Worker, fetched: HashSet<u64>) -> Searched {
        let goes_round = self.states.first_on_cycle().is_some();
        self.class.settle(&worker.session, self.all, fetched);
        Searched {
            class: self.class,
            states: self.states.len() as u64 - 1,
            edges: self.edges,
            merged: self.merged,
            max_nesting: self.max_nesting,
            coverage: self.coverage,
            goes_round,
        }
    }
}
