//! The search itself: waves of states, from few arrivals to many.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::coverage::{Count, Coverage, Kind, Stand};
use super::live::{Liveness, Point};
use super::packed::{Packed, Packer};
use super::path::{self, Moves};
use super::progress::Progress;
use super::states::{Edge, Id, Next, States};
use crate::inject::{Gear, RunError, Schedule, Session, run};
use crate::kvm::Host;
use crate::machine::declare::{Scenario, Scheme};
use crate::machine::{Guest, Knobs};
use crate::oracle::{Invariant, Verdict};

/// What to search, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Give up beyond so many states.
    pub max_states: usize,
    /// Give up beyond so many bytes for states and frontier.
    pub max_memory: usize,
    /// Threads, each with a VM of its own.
    pub jobs: usize,
    /// How states follow one another.
    pub moves: Moves,
    /// Go on after the first violation.
    pub keep_going: bool,
    /// Keep every state whole, and count states with equal hashes that differ.
    pub check_hashes: bool,
    /// How many explored paths are run again in every gear.
    pub cross_check: usize,
    /// Keep what a drawing of the graph needs.
    pub graph: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_states: 20_000_000,
            max_memory: 4 << 30,
            jobs: 1,
            moves: Moves::default(),
            keep_going: false,
            check_hashes: false,
            cross_check: 20,
            graph: false,
        }
    }
}

/// Why a search ended before nothing new appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `max_states`.
    States,
    /// `max_memory`.
    Memory,
    /// A violation was found, and the search was not to go on.
    Violation,
    /// It was interrupted.
    Interrupted,
}

/// A violation, by a shortest schedule.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is broken.
    pub verdict: Verdict,
    /// How.
    pub schedule: Schedule,
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Why it is not closed; `None`: nothing new appeared, everything is covered.
    pub bound: Option<Bound>,
    /// Distinct states.
    pub states: u64,
    /// Edges followed.
    pub edges: u64,
    /// Edges that led to a known state.
    pub merged: u64,
    /// States found but not expanded.
    pub frontier: u64,
    /// Most NMIs that were live at once, one inside the other.
    pub max_nesting: u32,
    /// Instructions that execution stood at with NMIs unblocked.
    pub boundaries: u64,
    /// Of these, how many had an NMI injected.
    pub covered: u64,
    /// Boundaries by the kind of context (I20). A kind that is not here was, in a closed
    /// search, shown to be unreachable.
    pub coverage: Vec<(Kind, Count)>,
    /// The largest use of each declared stack over all states, in bytes.
    pub stacks: Vec<(String, u64)>,
    /// Violations by kind, each with a shortest schedule.
    pub violations: Vec<Found>,
    /// Explored paths that were run again, once in each gear.
    pub cross_checked: u64,
    /// Of these, how many came to another verdict.
    pub disagreements: u64,
    /// Equal hashes of different states (`check_hashes`).
    pub collisions: Option<u64>,
    /// How often the search was made until no more words were found to be live.
    pub rounds: u32,
    /// Bytes of memory for visited states, the frontier apart.
    pub visited_bytes: u64,
    /// The graph as DOT (`graph`).
    pub dot: Option<String>,
}

/// Why a search could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] crate::machine::Error),
    /// A path could not be run again.
    #[error("a path that was explored cannot be run again: {0}")]
    Path(#[from] RunError),
}

/// A thread's machine.
pub(super) struct Worker {
    pub session: Session,
    packer: Packer,
    /// Which stack words are dead (`merge_dead`).
    live: Option<Liveness>,
    /// Freely run chains that were stepped once: where they begin and end, and what
    /// they change.
    chains: HashSet<(Point, Point, u64)>,
    /// One in so many states of the interrupted code has arrivals (1: all).
    sample: u32,
    /// Offsets of the declared stacks in the writable pages.
    stacks: Vec<std::ops::Range<usize>>,
    deepest: Vec<usize>,
}

/// Where an edge leads.
enum To {
    Known(u128),
    New(u128, Packed),
    Ends(Verdict),
}

struct Reached {
    from: Id,
    edge: Edge,
    to: To,
    rip: u64,
    stand: Stand,
    nesting: u32,
}

impl Worker {
    fn new(mut session: Session, moves: Moves) -> Self {
        let packer = Packer::new(&mut session);
        let watched = &session.rules().watched;
        let stacks: Vec<_> = session.rules().guest.image.declared.stacks.iter().map(|s| &s.range).collect();
        let range = |r: &&std::ops::Range<u64>| {
            let start = watched.offset(r.start);
            start.map_or(0..0, |start| start..start + (r.end - r.start) as usize)
        };
        let stacks: Vec<_> = stacks.iter().map(range).collect();
        let deepest = stacks.iter().map(|s| s.end).collect();
        let live = if moves.merge_dead { Liveness::new(session.rules()) } else { None };
        Self { session, packer, live, chains: HashSet::new(), sample: 1, stacks, deepest }
    }

    /// Follows one edge from `state`. `None` where the edge does not exist there.
    fn follow(
        &mut self,
        id: Id,
        state: &Packed,
        edge: Edge,
        moves: Moves,
        known: &States,
    ) -> Result<Option<Reached>, Error> {
        self.packer.unpack(state, &mut self.session);
        let from = self.session.machine().rip();
        let stand = Stand::of(&self.session);
        let outermost = self.session.oracle().ghost.outer.is_none();
        if !path::exists(&self.session, edge, moves) {
            return Ok(None);
        }
        let nesting = match edge {
            Edge::Nmi if !outermost && moves.skips_blocked() => self.nest(state, moves)?,
            _ => self.walk(state, edge, moves)?,
        };
        if edge == Edge::Nmi && outermost && !id.is_multiple_of(self.sample) {
            return Ok(None); // its entry was looked at; the rest is like a sampled one's
        }
        let to = match self.session.take_verdict() {
            Some(verdict) => To::Ends(verdict),
            None => {
                let hash = self.packer.hash(&self.session, self.live.as_ref());
                self.note_stacks();
                match known.get(hash) {
                    Some(_) => To::Known(hash),
                    None => To::New(hash, self.packer.pack(&self.session)),
                }
            }
        };
        Ok(Some(Reached { from: id, edge, to, rip: from, stand, nesting }))
    }

    /// Follows a nested NMI's edge in one run, where a chain like it was stepped before.
    fn nest(&mut self, state: &Packed, moves: Moves) -> Result<u32, Error> {
        let (start, nesting) = (Point::of(&self.session), self.session.oracle().ghost.frames.nmis() + 1);
        if self.session.nest_at_once()? {
            self.packer.look(&self.session);
            if self.chains.contains(&(start, Point::of(&self.session), self.packer.change_since(state))) {
                return Ok(nesting);
            }
        }
        self.packer.unpack(state, &mut self.session);
        self.walk(state, Edge::Nmi, moves)
    }

    /// Follows an edge, and looks at where it led. A chain that was run freely is
    /// stepped, unless one like it was before.
    fn walk(&mut self, state: &Packed, edge: Edge, moves: Moves) -> Result<u32, Error> {
        let start = Point::of(&self.session);
        let nesting = path::follow(&mut self.session, edge, moves, self.live.as_mut())?;
        self.packer.look(&self.session);
        if edge == Edge::Step || !moves.skips_blocked() {
            return Ok(nesting);
        }
        let key = (start, Point::of(&self.session), self.packer.change_since(state));
        if self.chains.insert(key) {
            self.packer.unpack(state, &mut self.session);
            path::follow_closely(&mut self.session, edge, moves, self.live.as_mut())?;
            self.packer.look(&self.session);
        }
        Ok(nesting)
    }

    fn note_stacks(&mut self) {
        for (range, deepest) in self.stacks.iter().zip(&mut self.deepest) {
            if let Some(at) = self.packer.lowest_change(range) {
                *deepest = (*deepest).min(at);
            }
        }
    }
}

/// Searches every pattern of arrivals for one scheme and scenario.
pub fn explore(
    host: &Host,
    guest: &Arc<Guest>,
    (scheme, scenario): (&Scheme, &Scenario),
    knobs: Knobs,
    config: Config,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    let worker = || Session::new(host, guest, scheme, scenario, knobs).map(|s| Worker::new(s, config.moves));
    let mut workers = (0..config.jobs.max(1)).map(|_| worker()).collect::<Result<Vec<_>, _>>()?;
    // What is live in a handler hardly depends on what it interrupted: it is learned
    // from few interrupted contexts first, then the whole search is made.
    let mut sample = if config.moves.merge_dead { LEARN_FROM } else { 1 };
    for round in 1.. {
        workers.iter_mut().for_each(|w| w.sample = sample);
        let mut search = Search::begin(&mut workers[0], config);
        search.run(&mut workers, stop, on_progress)?;
        let stopped = !matches!(search.report.bound, None | Some(Bound::Violation));
        let more = more_is_live(&mut workers);
        log::info!(
            "round {round}: arrivals in 1 of {sample} contexts, {} states; more words are live: {more}",
            search.states.len()
        );
        if stopped || (!more && sample == 1) {
            search.report.rounds = round;
            return search.finish(&mut workers);
        }
        if !more {
            sample = 1;
        }
    }
    unreachable!("the loop ends when no more is live, and there are finitely many words")
}

/// While liveness is learned, one in so many interrupted contexts is.
const LEARN_FROM: u32 = 61;

/// Brings together what the workers have seen of the stacks. `true` where words are
/// live that the search took for dead.
fn more_is_live(workers: &mut [Worker]) -> bool {
    let (first, rest) = workers.split_at_mut(1);
    let Some(live) = first[0].live.as_mut() else { return false };
    rest.iter().filter_map(|w| w.live.as_ref()).for_each(|other| live.absorb(other));
    let more = live.settle();
    rest.iter_mut().filter_map(|w| w.live.as_mut()).for_each(|other| other.adopt(live));
    more
}

struct Search {
    config: Config,
    states: States,
    /// Unexpanded states by `(arrivals, edges)`.
    waves: BTreeMap<(u32, u32), Vec<(Id, Packed)>>,
    frontier_bytes: usize,
    frontier: usize,
    /// Whole states, by number (`check_hashes`).
    whole: Vec<Packed>,
    collisions: u64,
    /// Instruction and nesting of each state (`graph`).
    places: Vec<(u64, u32)>,
    links: HashSet<(Id, Id, Edge)>,
    stood: HashSet<u64>,
    injected: HashSet<u64>,
    coverage: Coverage,
    found: Vec<(Verdict, Vec<Edge>)>,
    report: Report,
}

impl Search {
    fn begin(worker: &mut Worker, config: Config) -> Self {
        worker.session.reset();
        worker.packer.look(&worker.session);
        let hash = worker.packer.hash(&worker.session, worker.live.as_ref());
        let root = worker.packer.pack(&worker.session);
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
            stood: HashSet::new(),
            injected: HashSet::new(),
            coverage: Coverage::default(),
            found: vec![],
            report: Report::default(),
        };
        out.states.add(hash, 0, Edge::Step);
        out.places.push((worker.session.machine().rip(), 0));
        out.keep(0, (0, 0), root);
        out
    }

    fn keep(&mut self, id: Id, at: (u32, u32), state: Packed) {
        if self.config.check_hashes {
            self.whole.push(state.clone());
        }
        self.frontier_bytes += state.bytes();
        self.frontier += 1;
        self.waves.entry(at).or_default().push((id, state));
    }

    fn run(
        &mut self,
        workers: &mut [Worker],
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        while let Some((at, wave)) = self.waves.pop_first() {
            self.frontier -= wave.len();
            self.frontier_bytes -= wave.iter().map(|(_, s)| s.bytes()).sum::<usize>();
            // A long wave is taken in parts, so that bounds and Ctrl-C are seen in time.
            for part in wave.chunks(4096) {
                for reached in self.expand(workers, part)? {
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
        }
        Ok(())
    }

    fn bound_hit(&self, stop: &AtomicBool) -> Option<Bound> {
        if stop.load(Relaxed) {
            Some(Bound::Interrupted)
        } else if !self.found.is_empty() && !self.config.keep_going {
            Some(Bound::Violation)
        } else if self.states.len() > self.config.max_states {
            Some(Bound::States)
        } else if self.states.bytes() + self.frontier_bytes > self.config.max_memory {
            Some(Bound::Memory)
        } else {
            None
        }
    }

    /// Follows all edges of a wave's states. The order of the results does not depend
    /// on the number of threads.
    fn expand(&self, workers: &mut [Worker], wave: &[(Id, Packed)]) -> Result<Vec<Reached>, Error> {
        let (moves, states) = (self.config.moves, &self.states);
        let work = |worker: &mut Worker, part: &[(Id, Packed)]| {
            let mut out = Vec::with_capacity(part.len() * 2);
            for (id, state) in part {
                for edge in [Edge::Step, Edge::Nmi, Edge::Unmask] {
                    out.extend(worker.follow(*id, state, edge, moves, states)?);
                }
            }
            Ok(out)
        };
        let share = wave.len().div_ceil(workers.len());
        if workers.len() == 1 || wave.len() < 16 {
            return work(&mut workers[0], wave);
        }
        std::thread::scope(|scope| {
            let parts = wave.chunks(share).zip(workers);
            let threads: Vec<_> = parts.map(|(part, worker)| scope.spawn(move || work(worker, part))).collect();
            let mut out = Vec::with_capacity(wave.len() * 2);
            for thread in threads {
                match thread.join() {
                    Ok(part) => out.extend(part?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(out)
        })
    }

    fn take(&mut self, (arrivals, edges): (u32, u32), reached: Reached) {
        let Reached { from, edge, to, rip, stand, nesting } = reached;
        self.report.edges += 1;
        self.report.max_nesting = self.report.max_nesting.max(nesting);
        self.stood.insert(rip);
        self.coverage.note(stand, edge == Edge::Nmi);
        if edge == Edge::Nmi {
            self.injected.insert(rip);
        }
        let hash = match to {
            To::Ends(verdict) => return self.ends(from, edge, verdict),
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

    fn ends(&mut self, from: Id, edge: Edge, verdict: Verdict) {
        if edge == Edge::Step {
            self.states.set_next(from, if verdict.is_pass() { Next::End } else { Next::Fails });
        }
        let kind = |v: &Verdict| (v.word(), v.invariant());
        if verdict.is_pass() || self.found.iter().any(|(v, _)| kind(v) == kind(&verdict)) {
            return;
        }
        let mut path = self.states.path(from);
        path.push(edge);
        self.found.push((verdict, path));
    }

    fn finish(mut self, workers: &mut [Worker]) -> Result<Report, Error> {
        if let Some(id) = self.states.first_on_cycle().filter(|_| !self.has_livelock()) {
            let detail = String::new();
            self.found.push((Verdict::Livelock { detail }, self.states.path(id)));
        }
        let deepest = |i: usize| workers.iter().map(|w| w.stacks[i].end - w.deepest[i]).max().unwrap_or(0) as u64;
        let stacks = &workers[0].session.rules().guest.image.declared.stacks;
        self.report.stacks = stacks.iter().enumerate().map(|(i, s)| (s.name.clone(), deepest(i))).collect();
        self.report.states = self.states.len() as u64;
        self.report.boundaries = self.stood.len() as u64;
        self.report.covered = self.injected.len() as u64;
        self.report.coverage = self.coverage.counts().into_iter().collect();
        self.report.visited_bytes = self.states.bytes() as u64;
        self.report.collisions = self.config.check_hashes.then_some(self.collisions);
        let session = &mut workers[0].session;
        if self.config.graph {
            self.report.dot = Some(super::dot::graph(session.rules().names(), &self.places, &self.links));
        }
        self.confirm(session)?;
        self.cross_check(session)?;
        Ok(self.report)
    }

    fn has_livelock(&self) -> bool {
        self.found.iter().any(|(v, _)| v.invariant() == Some(Invariant::I17))
    }

    /// Runs each violation's path again in every gear: its verdict is what they say.
    fn confirm(&mut self, session: &mut Session) -> Result<(), Error> {
        for (mut verdict, path) in std::mem::take(&mut self.found) {
            let schedule = path::schedule(session, &path, self.config.moves)?;
            for gear in [Gear::Step, Gear::Jump, Gear::Arm] {
                let again = run(session, &schedule, gear, &mut ())?;
                let same = (again.word(), again.invariant()) == (verdict.word(), verdict.invariant());
                self.report.disagreements += u64::from(!same);
                if same && gear == Gear::Step {
                    verdict = again;
                }
            }
            self.report.cross_checked += 1;
            self.report.violations.push(Found { verdict, schedule });
        }
        self.report.violations.sort_by_key(|f| f.schedule.0.len());
        Ok(())
    }

    /// Runs a sample of explored paths again in every gear, with nothing more arriving.
    fn cross_check(&mut self, session: &mut Session) -> Result<(), Error> {
        let (n, of) = (self.config.cross_check, self.states.len());
        for i in 0..n.min(of) {
            let id = (i * of / n.min(of)) as Id;
            let pass = match self.states.outcome(id) {
                Next::End => true,
                Next::Unknown => continue, // not expanded, where a bound was hit
                Next::Fails | Next::State(_) => false,
            };
            let path = self.states.path(id);
            let schedule = path::schedule(session, &path, self.config.moves)?;
            for gear in [Gear::Arm, Gear::Step, Gear::Jump] {
                let verdict = run(session, &schedule, gear, &mut ())?;
                if verdict.is_pass() != pass {
                    let text = schedule.show(session.rules().names());
                    log::error!("the explorer says pass={pass} for {text}; gear {gear:?} says {verdict}");
                    self.report.disagreements += 1;
                }
            }
            self.report.cross_checked += 1;
        }
        Ok(())
    }
}
