//! One round of the search: waves of states, from few arrivals to many.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::config::{Bound, Config, Error, Report};
use super::memory;
use super::packed::Packed;
use super::progress::Progress;
use super::states::{Edge, Id, Next, States};
use super::threads::in_order;
use super::worker::{Reached, To, Worker};
use crate::inject::coverage::{Coverage, Stand};
use crate::machine::Engine;
use crate::oracle::{Invariant, Verdict};

/// While liveness is learned, one in so many interrupted contexts is.
pub(super) const LEARN_FROM: u32 = 61;

/// States that a thread takes at once.
const PIECE: usize = 64;

/// A violation, and the path to it.
pub(super) struct Broken {
    pub verdict: Verdict,
    pub path: Vec<Edge>,
    /// Its arrivals and edges.
    cost: (u32, u32),
}

/// A search under way.
pub(super) struct Search {
    pub config: Config,
    pub states: States,
    /// Unexpanded states by `(arrivals, edges)`.
    pub waves: BTreeMap<(u32, u32), Vec<(Id, Packed)>>,
    pub frontier_bytes: usize,
    pub frontier: usize,
    /// Whole states, by number (`check_hashes`).
    whole: Vec<Packed>,
    collisions: u64,
    /// Instruction and nesting of each state (`graph`).
    places: Vec<(u64, u32)>,
    links: HashSet<(Id, Id, Edge)>,
    coverage: Coverage,
    /// The state and the edge that came deepest into nested NMIs.
    pub deepest: (Id, Edge),
    pub found: Vec<Broken>,
    pub report: Report,
}

impl Search {
    pub fn begin(worker: &mut Worker, config: Config) -> Self {
        worker.session.reset();
        worker.packer.look(&worker.session);
        let hash = worker.hash();
        let root = worker.pack();
        let mut out = Self {
            config,
            states: States::default(),
            waves: BTreeMap::new(),
            frontier_bytes: 0,
            frontier: 0,
            whole: vec![],
            collisions: 0,
            places: vec![],
            links: HashSet::new(),
            coverage: Coverage::default(),
            deepest: (0, Edge::Step),
            found: vec![],
            report: Report::default(),
        };
        out.states.add(hash, 0, Edge::Step);
        out.places.push((worker.session.machine().rip(), 0));
        out.keep(0, (0, 0), root);
        out
    }

    pub fn keep(&mut self, id: Id, at: (u32, u32), state: Packed) {
        if self.config.check_hashes {
            self.whole.push(state.clone());
        }
        self.frontier_bytes += state.bytes();
        self.frontier += 1;
        self.waves.entry(at).or_default().push((id, state));
    }

    pub fn run(
        &mut self,
        workers: &mut [Worker],
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        while let Some((at, wave)) = self.waves.pop_first() {
            if self.stops_before(at) {
                self.report.bound = Some(Bound::Violation);
                self.report.frontier = self.frontier as u64;
                return Ok(());
            }
            self.frontier -= wave.len();
            self.frontier_bytes -= wave.iter().map(|(_, s)| s.bytes()).sum::<usize>();
            // A long wave is taken in parts, so that bounds and Ctrl-C are seen in time.
            for part in wave.chunks(4096) {
                let reached = match self.expand(workers, part) {
                    Err(e) if e.is_interruption() => {
                        self.report.bound = Some(Bound::Interrupted);
                        self.report.frontier = (self.frontier + wave.len()) as u64;
                        return Ok(());
                    }
                    reached => reached?,
                };
                for reached in reached {
                    self.take(at, reached);
                }
                on_progress(Progress {
                    states: self.states.len() as u64,
                    frontier: self.frontier as u64,
                    arrivals: at.0,
                });
                self.report.bound = self.bound_hit(stop);
                if self.report.bound.is_some() {
                    self.report.frontier = (self.frontier + wave.len()) as u64;
                    return Ok(());
                }
            }
            let mut done = wave.into_iter().map(|(_, state)| state);
            let share = done.len().div_ceil(workers.len());
            workers.iter_mut().for_each(|w| w.packer.reuse(done.by_ref().take(share)));
        }
        Ok(())
    }

    /// Whether what was found is a shortest: no state with fewer arrivals, or with as many
    /// and fewer edges, is left. Then those that are not are dropped.
    fn stops_before(&mut self, next: (u32, u32)) -> bool {
        let Some(least) = self.found.iter().map(|f| f.cost).min().filter(|_| !self.config.keep_going) else {
            return false;
        };
        if next >= least {
            self.found.retain(|f| f.cost == least);
        }
        next >= least
    }

    pub fn bound_hit(&self, stop: &AtomicBool) -> Option<Bound> {
        if stop.load(Relaxed) {
            Some(Bound::Interrupted)
        } else if self.states.len() > self.config.max_states {
            Some(Bound::States)
        } else if self.memory() > self.config.max_memory {
            Some(Bound::Memory)
        } else {
            None
        }
    }

    /// Bytes that the search takes, or will as soon as it goes on.
    fn memory(&self) -> usize {
        let counted = self.states.bytes() + self.frontier_bytes;
        match self.config.alone {
            // Where it is not known, the search ends at its limit rather than pass it.
            true => memory::resident().map_or(usize::MAX, |resident| counted.max(resident + self.states.growth())),
            false => counted,
        }
    }

    /// Follows all edges of a wave's states.
    fn expand(&self, workers: &mut [Worker], wave: &[(Id, Packed)]) -> Result<Vec<Reached>, Error> {
        let (reductions, states) = (self.config.reductions, &self.states);
        let pieces: Vec<&[(Id, Packed)]> = wave.chunks(PIECE).collect();
        let work = |worker: &mut Worker, i: usize| {
            let mut out = Vec::with_capacity(pieces[i].len() * 2);
            for (id, state) in pieces[i] {
                for edge in reductions.edges() {
                    out.extend(worker.follow(*id, state, edge, reductions, states)?);
                }
            }
            Ok(out)
        };
        Ok(in_order(workers, pieces.len(), work, |_| false)?.into_iter().flatten().collect())
    }

    /// Notes what an edge shows besides where it leads.
    pub fn note(&mut self, reached: &Reached) {
        self.count(reached);
        self.stands(reached.stand, reached.edge);
    }

    /// The same, where it begins in a context that is not one of the guest's.
    pub fn count(&mut self, reached: &Reached) {
        self.report.edges += 1;
        if reached.nesting > self.report.max_nesting {
            self.deepest = (reached.from, reached.edge);
        }
        self.report.max_nesting = self.report.max_nesting.max(reached.nesting);
    }

    /// Adds what the search of an episode has shown.
    pub fn absorb(&mut self, edges: u64, merged: u64, max_nesting: u32, coverage: &Coverage) {
        self.report.edges += edges;
        self.report.merged += merged;
        self.report.max_nesting = self.report.max_nesting.max(max_nesting);
        self.coverage.merge(coverage);
    }

    /// Execution stood there before it went on by `edge`.
    pub fn stands(&mut self, stand: Stand, edge: Edge) {
        self.coverage.note(stand, edge == Edge::NMI);
    }

    pub fn take(&mut self, (arrivals, edges): (u32, u32), reached: Reached) {
        self.note(&reached);
        let Reached { from, edge, to, nesting, .. } = reached;
        let hash = match to {
            To::Ends(verdict) => return self.ends(from, edge, verdict, (arrivals, edges)),
            To::Known(hash) | To::New(hash, _) => hash,
        };
        let arrivals = arrivals + u32::from(edge != Edge::Step);
        let id = match self.states.add(hash, from, edge) {
            Some(id) => {
                if let To::New(_, state) = to {
                    if self.config.graph {
                        self.places.push((state.rip(), nesting));
                    }
                    self.keep(id, (arrivals, edges + 1), state);
                }
                id
            }
            None => {
                self.report.merged += 1;
                let id = self.states.get(hash).unwrap_or(from);
                if let (true, To::New(_, state)) = (self.config.check_hashes, &to) {
                    self.collisions += u64::from(!self.whole[id as usize].same(state));
                }
                id
            }
        };
        if edge == Edge::Step {
            self.states.set_next(from, Next::State(id));
        }
        if self.config.graph {
            self.links.insert((from, id, edge));
        }
    }

    fn ends(&mut self, from: Id, edge: Edge, verdict: Verdict, (arrivals, edges): (u32, u32)) {
        if edge == Edge::Step {
            self.states.set_next(from, if verdict.is_pass() { Next::End } else { Next::Fails });
        }
        if verdict.is_pass() {
            return;
        }
        let cost = (arrivals + u32::from(edge != Edge::Step), edges + 1);
        let known = self.found.iter().position(|f| f.verdict.kind() == verdict.kind());
        if known.is_some_and(|i| self.found[i].cost <= cost) {
            return;
        }
        let path = self.states.path(from).into_iter().chain([edge]).collect();
        let new = Broken { verdict, path, cost };
        match known {
            Some(i) => self.found[i] = new, // an arrival's edge ends later than it begins
            None => self.found.push(new),
        }
    }

    /// The report. Unless all is `settled` that the search took for dead or for alike, states
    /// may have been taken for the same that are not: then where a path leads is not said.
    pub fn finish(mut self, workers: &mut [Worker], settled: bool) -> Result<Report, Error> {
        if let Some(id) = self.states.first_on_cycle().filter(|_| settled && !self.has_livelock()) {
            let detail = String::new();
            let (verdict, path) = (Verdict::Livelock { detail }, self.states.path(id));
            self.found.push(Broken { verdict, path, cost: (0, 0) });
        }
        let deepest = |i: usize| workers.iter().map(|w| w.stacks[i].end - w.deepest[i]).max().unwrap_or(0) as u64;
        let stacks = &workers[0].session.rules().guest.image.declared.stacks;
        self.report.stacks = stacks.iter().enumerate().map(|(i, s)| (s.name.clone(), deepest(i))).collect();
        self.report.states = self.states.len() as u64 + self.report.episodes.map_or(0, |e| e.states);
        (self.report.boundaries, self.report.covered) = self.coverage.instructions();
        self.report.coverage = std::mem::take(&mut self.coverage);
        self.report.visited_bytes = self.states.bytes() as u64;
        self.report.collisions = self.config.check_hashes.then_some(self.collisions);
        let session = &mut workers[0].session;
        if self.config.graph {
            self.report.dot = Some(super::dot::graph(session.rules().names(), &self.places, &self.links));
        }
        self.report.poison_at = workers.iter().find_map(|w| w.poison_at);
        self.report.reads_time = workers.iter().filter_map(|w| w.session.machine().read_time()).min();
        self.report.cleared_ac = workers.iter().filter_map(|w| w.session.machine().cleared_ac()).min();
        let confirmed: HashSet<&u128> = workers.iter().flat_map(Worker::confirmed).collect();
        self.report.confirmed = confirmed.len() as u64;
        for worker in workers.iter() {
            self.report.deviations.extend(worker.deviations.iter().cloned());
            for unknown in worker.session.machine().unknown() {
                if self.report.unknown.iter().all(|u| u.at != unknown.at) {
                    self.report.unknown.push(*unknown);
                }
            }
        }
        self.report.unknown.sort_by_key(|u| u.at);
        let session = &mut workers[0].session;
        self.report.stepped = session.machine().engine() == Engine::Model || !self.config.reductions.skips_blocked();
        workers.iter_mut().for_each(|w| w.session.set_engine(Engine::Kvm));
        let session = &mut workers[0].session;
        if let Some(Bound::States | Bound::Memory) = self.report.bound {
            self.report.growth = self.growth(session)?;
        }
        self.confirm(session)?;
        if settled {
            self.cross_check(workers)?;
        }
        Ok(self.report)
    }
    fn has_livelock(&self) -> bool {
        self.found.iter().any(|f| f.verdict.invariant() == Some(Invariant::Progress))
    }
}
