//! Interruptions that are alike are searched once.
//!
//! Whatever NMIs do between the delivery that finds none live and the return to the
//! interrupted context is an *episode*. Its code saves the context's registers and gives them
//! back; it looks at little of them. So an episode is searched from one context, with every
//! number, timing and nesting of NMIs, while the model of the CPU follows where each value
//! comes from. What it yields is a *class*: the inputs that were looked at, with their values;
//! how comparisons came out; and the ways that the episode can end.
//!
//! Two contexts that agree in what was looked at execute the same instructions on every path
//! of the episode, and stand in states that differ only where a copy of an input stands
//! ([`Traced`]). That holds as long as the oracle, too, sees the same: what it compares is
//! looked at, unless it is the very copy that it ought to be (`machine/traced.rs`); a context
//! in code that the episode itself executes is a class of its own. Each way to end is then
//! executed from every context of the class, under the oracle, and must execute the same
//! instructions.
//!
//! That is a proof where nothing is found. A violation is not reported from here: the
//! whole search then finds it, by a shortest schedule.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicBool;

use super::class::{Class, Ending, Key};
use super::config::{Bound, Config, Deviation, Episodes, Error, Report};
use super::packed::Packed;
use super::path;
use super::progress::Progress;
use super::search::{LEARN_FROM, Search};
use super::states::{Edge, Id, Next, States};
use super::worker::{To, Worker};
use crate::cpu::Traced;
use crate::image::Mode;
use crate::inject::Session;
use crate::inject::coverage::Stand;
use crate::machine::Engine;
use crate::oracle::Verdict;

/// Rounds of learning after which it is left to the whole search.
const MOST_ROUNDS: u32 = 50;

/// States of one episode beyond which following values costs more than it saves.
const MOST_STATES: usize = 20_000;

/// Why a round ended.
enum Ended {
    /// Nothing new appeared.
    Closed,
    /// A limit was hit.
    Bound,
    /// It is no proof: something cannot be followed.
    Open(String),
    /// A rule was broken.
    Broken(Verdict),
}

/// What a search by episodes has seen that is no proof. The whole search must not be without it.
#[derive(Default)]
pub struct Seen {
    /// A rule was broken, in a run from a state that is reached.
    pub verdict: Option<Verdict>,
    /// KVM came to another state than the model.
    pub deviations: Vec<Deviation>,
}

impl Seen {
    fn by(worker: &Worker, verdict: Option<Verdict>) -> Self {
        Self { verdict, deviations: worker.deviations.clone() }
    }
}

/// Searches by episodes. An error value is what it saw where that is no proof: the whole search
/// must be made.
pub fn explore(
    session: Session,
    config: Config,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Result<Report, Seen>, Error> {
    let mut worker = Worker::new(session, &config);
    if worker.session.machine().engine() != Engine::Model || worker.look.live.is_none() {
        return Ok(Err(Seen::default()));
    }
    // A few interrupted contexts show most of what there is to learn; then all are looked at.
    worker.sample = LEARN_FROM;
    // Once all contexts were looked at, the words that are held for dead hold poison.
    let mut poison = false;
    for round in 1..=MOST_ROUNDS {
        let poisoned = worker.poison(poison);
        let mut search = ByEpisodes::begin(&mut worker, config);
        let ended = match search.run(&mut worker, stop, on_progress) {
            Err(e) if e.is_interruption() => {
                search.search.report.bound = Some(Bound::Interrupted);
                Ended::Bound
            }
            ended => ended?,
        };
        let more = worker.look.live.as_mut().is_some_and(|live| live.settle());
        let ByEpisodes { mut search, episodes, goes_round, .. } = search;
        log::info!(
            "round {round}: arrivals in 1 of {} contexts; {episodes:?}, {} states; poison in {poisoned} words; more words are live: {more}",
            worker.sample,
            search.states.len()
        );
        search.report.poisoned = poisoned as u64;
        search.report.rounds = round;
        search.report.episodes = Some(episodes);
        match ended {
            Ended::Bound if search.report.bound == Some(Bound::Interrupted) => {
                return search.finish(std::slice::from_mut(&mut worker), false).map(Ok);
            }
            Ended::Bound => return Ok(Err(Seen::by(&worker, None))), // what the whole search finds within the same bounds counts
            Ended::Open(_) | Ended::Broken(_) if poison && more => poison = false, // it may have been read
            Ended::Open(why) => {
                log::info!("by episodes it is not proved: {why}");
                return Ok(Err(Seen::by(&worker, None)));
            }
            Ended::Broken(verdict) => {
                log::info!("by episodes it is not proved: {verdict}");
                return Ok(Err(Seen::by(&worker, Some(verdict))));
            }
            Ended::Closed if more => poison = !poison && worker.sample == 1,
            Ended::Closed if worker.sample > 1 => worker.sample = 1,
            Ended::Closed if !poison => poison = true,
            Ended::Closed if goes_round || search.states.first_on_cycle().is_some() => {
                return Ok(Err(Seen::by(&worker, None)));
            }
            Ended::Closed => return search.finish(std::slice::from_mut(&mut worker), true).map(Ok),
        }
    }
    Ok(Err(Seen::by(&worker, None)))
}

/// A round under way: the search over contexts with no NMI live.
struct ByEpisodes {
    search: Search,
    /// Classes by what contexts of one always agree in.
    known: HashMap<Key, Vec<Class>>,
    episodes: Episodes,
    /// An episode comes back to a state that it was in. While words are taken for dead that
    /// are live, that means nothing.
    goes_round: bool,
}

impl ByEpisodes {
    fn begin(worker: &mut Worker, config: Config) -> Self {
        let search = Search::begin(worker, config);
        Self { search, known: HashMap::new(), episodes: Episodes::default(), goes_round: false }
    }

    fn run(
        &mut self,
        worker: &mut Worker,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Ended, Error> {
        let mode = worker.session.machine().mode();
        while let Some((at, wave)) = self.search.waves.pop_first() {
            self.search.frontier -= wave.len();
            self.search.frontier_bytes -= wave.iter().map(|(_, s)| s.bytes()).sum::<usize>();
            for (id, state) in &wave {
                if let Some(ended) = self.expand(worker, mode, at, (*id, state), stop)? {
                    self.search.report.frontier = (self.search.frontier + wave.len()) as u64;
                    return Ok(ended);
                }
                on_progress(Progress {
                    states: self.search.states.len() as u64,
                    frontier: self.search.frontier as u64,
                    arrivals: at.0,
                });
            }
        }
        Ok(Ended::Closed)
    }

    /// Follows both edges of a context with no NMI live. Why the round ends, where it does.
    fn expand(
        &mut self,
        worker: &mut Worker,
        mode: Mode,
        at: (u32, u32),
        (id, state): (Id, &Packed),
        stop: &AtomicBool,
    ) -> Result<Option<Ended>, Error> {
        let delivers = state.pending(mode) && !state.blocked(mode) && !state.in_shadow();
        let reductions = self.search.config.reductions;
        if !delivers && let Some(reached) = worker.follow(id, state, Edge::Step, reductions, &self.search.states)? {
            if let To::Ends(verdict) = &reached.to
                && !verdict.is_pass()
            {
                return Ok(Some(Ended::Broken(verdict.clone())));
            }
            if !matches!(reached.to, To::Ends(_)) && worker.session.oracle().ghost.outer.is_some() {
                return Ok(Some(Ended::Open("an instruction of the interrupted code begins an episode".into())));
            }
            self.search.take(at, reached);
        }
        let edge = if delivers { Edge::Step } else { Edge::NMI };
        if path::exists(state, mode, edge, reductions)
            && let Some(ended) = self.episode(worker, at, (id, state), edge, stop)?
        {
            return Ok(Some(ended));
        }
        self.search.report.bound = self.search.bound_hit(stop);
        Ok(self.search.report.bound.is_some().then_some(Ended::Bound))
    }

    /// The episode that begins with `edge`: searched, unless one of its class was; then each of
    /// its endings, from the context itself.
    fn episode(
        &mut self,
        worker: &mut Worker,
        at: (u32, u32),
        (id, state): (Id, &Packed),
        edge: Edge,
        stop: &AtomicBool,
    ) -> Result<Option<Ended>, Error> {
        self.episodes.all += 1;
        worker.packer.unpack(state, &mut worker.session);
        self.search.stands(Stand::of(&worker.session), edge);
        let key = Key::of(&worker.session, edge);
        let class = self.known.get(&key).and_then(|list| list.iter().position(|c| c.fits(&worker.session)));
        let class = match class {
            Some(class) => class,
            None if edge == Edge::NMI && !id.is_multiple_of(worker.sample) => return Ok(None), // this round only learns
            None => {
                log::debug!(
                    "{}",
                    match self.known.get(&key).and_then(|list| list.first()) {
                        Some(class) => format!("another class: {}", class.misfit(&worker.session)),
                        None => format!("another kind of context at {:#x}", worker.session.machine().rip()),
                    }
                );
                self.episodes.searched += 1;
                match self.search_class(worker, state, edge, stop)? {
                    Ok(class) => {
                        let list = self.known.entry(key).or_default();
                        list.push(class);
                        list.len() - 1
                    }
                    Err(ended) => return Ok(Some(ended)),
                }
            }
        };
        for i in 0..self.known[&key][class].endings.len() {
            if let Some(ended) = self.end(worker, at, (id, state), (key, class), i)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Searches an episode. Its class, or why the round ends.
    fn search_class(
        &mut self,
        worker: &mut Worker,
        root: &Packed,
        first: Edge,
        stop: &AtomicBool,
    ) -> Result<Result<Class, Ended>, Error> {
        let reductions = self.search.config.reductions;
        worker.packer.unpack(root, &mut worker.session);
        let mut class = Class::begin(&worker.session);
        let mut all = Traced::new();
        let mut states = States::default();
        states.add(0, 0, Edge::Step);
        // What is not expanded yet, by arrivals and edges; and every trace, for states that are met again.
        let mut traces: Vec<Box<Traced>> = vec![Box::default()];
        let mut waves = BTreeMap::from([((0u32, 0u32), vec![(0 as Id, root.clone())])]);
        worker.look.fetched = Some(HashSet::new());
        while let Some(((arrivals, edges), wave)) = waves.pop_first() {
            for (id, state) in &wave {
                let at_root = *id == 0;
                for edge in reductions.edges().filter(|e| !at_root || *e == first) {
                    if !path::exists(state, worker.session.machine().mode(), edge, reductions) {
                        continue;
                    }
                    let Some(mut step) = worker.follow_traced(state, edge, reductions, traces[*id as usize].clone())?
                    else {
                        return Ok(Err(Ended::Open("a hypercall or an instruction cannot be followed".into())));
                    };
                    self.search.report.edges += 1;
                    self.search.report.max_nesting = self.search.report.max_nesting.max(step.nesting);
                    if !at_root {
                        self.search.stands(step.stand, edge);
                    }
                    if let Some(verdict) = step.verdict {
                        return Ok(Err(Ended::Broken(verdict)));
                    }
                    all.take_looks(&mut step.trace);
                    if step.outermost {
                        if edge == Edge::Step && !at_root {
                            states.set_next(*id, Next::End);
                        }
                        match class.endings.iter_mut().find(|e| e.hash == step.hash) {
                            Some(known) => {
                                known.trace.join(&step.trace, |paddr| worker.matters(paddr));
                                all.take_looks(&mut known.trace);
                            }
                            None => {
                                let way = states.path(*id).into_iter().chain([edge]).collect();
                                class.endings.push(Ending { way, hash: step.hash, trace: step.trace, code: None });
                            }
                        }
                        continue;
                    }
                    let at = (arrivals + u32::from(edge.event().is_some()), edges + 1);
                    let new = states.add(step.hash, *id, edge);
                    let to = new.or_else(|| states.get(step.hash)).unwrap_or(*id);
                    if edge == Edge::Step && !at_root {
                        states.set_next(*id, Next::State(to));
                    }
                    match (new, step.state.take()) {
                        (Some(new), Some(state)) => {
                            traces.push(step.trace);
                            waves.entry(at).or_default().push((new, state));
                        }
                        _ => {
                            self.search.report.merged += 1;
                            let known = &mut traces[to as usize];
                            known.join(&step.trace, |paddr| worker.matters(paddr));
                            all.take_looks(known);
                        }
                    }
                }
            }
            self.search.report.bound = self.search.bound_hit(stop);
            let so_far = self.search.states.len() + self.episodes.states as usize + states.len();
            if self.search.report.bound.is_some() || so_far > self.search.config.max_states {
                return Ok(Err(Ended::Bound));
            }
            if states.len() > MOST_STATES {
                return Ok(Err(Ended::Open(format!("an episode has more than {MOST_STATES} states"))));
            }
        }
        self.goes_round |= states.first_on_cycle().is_some();
        self.episodes.states += states.len() as u64 - 1;
        worker.packer.unpack(root, &mut worker.session);
        class.settle(&worker.session, all, worker.look.fetched.take().unwrap_or_default());
        Ok(Ok(class))
    }

    /// Executes one way that an episode ends from a context. What is wrong, where something is.
    fn end(
        &mut self,
        worker: &mut Worker,
        (arrivals, edges): (u32, u32),
        (id, state): (Id, &Packed),
        (key, class): (Key, usize),
        i: usize,
    ) -> Result<Option<Ended>, Error> {
        self.episodes.endings += 1;
        let ending = &self.known[&key][class].endings[i];
        worker.packer.unpack(state, &mut worker.session);
        let mut code = 0u128;
        let time_reads = worker.session.machine().time_reads();
        for edge in &ending.way {
            path::follow(&mut worker.session, *edge, self.search.config.reductions, Some(&mut worker.look))?;
            if worker.session.verdict().is_some() {
                break;
            }
            code = code.rotate_left(1) ^ worker.look.chain.number(0);
        }
        if let Some(verdict) = worker.session.take_verdict() {
            return Ok(Some(Ended::Broken(verdict)));
        }
        if worker.session.oracle().ghost.outer.is_some() {
            return Ok(Some(Ended::Open("an episode does not end as those of its class".into())));
        }
        // The contexts of a class execute the same instructions: if not, what it looks at is not all.
        if ending.code.is_some_and(|of_class| of_class != code) {
            return Ok(Some(Ended::Open("a context executes other instructions than its class".into())));
        }
        worker.look();
        let (hash, packed) = (worker.hash(), worker.pack());
        if let ([edge], true) = (&ending.way[..], worker.session.machine().time_reads() == time_reads) {
            worker.confirm(state, *edge, self.search.config.reductions, &To::Known(hash))?;
        }
        let nmis = ending.way.iter().filter(|e| e.event().is_some()).count() as u32;
        let at = (arrivals + nmis, edges + ending.way.len() as u32);
        let new = self.search.states.add_by(hash, id, &ending.way);
        if let Some(ending) = self.known.get_mut(&key).and_then(|list| list[class].endings.get_mut(i)) {
            ending.code = Some(code);
        }
        if nmis == 0
            && let Some(to) = new.or_else(|| self.search.states.get(hash))
        {
            self.search.states.set_next(id, Next::State(to));
        }
        match new {
            Some(new) => self.search.keep(new, at, packed),
            None => self.search.report.merged += 1,
        }
        Ok(None)
    }
}
