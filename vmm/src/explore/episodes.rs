//! Interruptions that are alike are searched once.
//!
//! Whatever NMIs do between the delivery that finds none live and the return to the
//! interrupted context is an *episode*. Its code looks at little of that context: it
//! saves the registers, and gives them back. So each context has a *twin*, in which all
//! that the code does not look at holds patterns (`needs.rs`), and contexts with the same
//! twin have the same episodes, but for the values that are carried around. The twin's
//! episode is searched, with every number, timing and nesting of NMIs; each way it can
//! end is then run from every context that is like it.
//!
//! What the code looks at is known from the instructions that were executed (`uses.rs`);
//! what is not known yet is found on the way, and the search is made again. Patterns
//! all differ, so what is given back to the wrong place shows in the twin's episode as it
//! would in every other (data independence: Wolper, POPL 1986).
//!
//! That is a proof where nothing is found. A violation is not reported from here: the
//! whole search then finds it in real contexts, by a shortest schedule.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;

use super::config::{Bound, Config, Episodes, Error, Report};
use super::live::Liveness;
use super::packed::Packed;
use super::path;
use super::progress::Progress;
use super::search::{LEARN_FROM, Search};
use super::states::{Edge, Id, Next, States};
use super::uses::Uses;
use super::worker::{To, Worker};
use crate::image::Mode;
use crate::inject::Session;
use crate::inject::coverage::Stand;

/// Rounds of learning after which it is left to the whole search.
const MOST_ROUNDS: u32 = 50;

/// A way that an episode ends.
struct Ending {
    /// The edges from the interrupted context on.
    way: Vec<Edge>,
    /// The twin's state afterwards.
    hash: u128,
    /// Without what is left on stacks.
    outside: u128,
}

/// Why a round ended.
enum Ended {
    /// Nothing new appeared.
    Closed,
    /// A limit was hit.
    Bound,
    /// Something broke, in a twin or on the way from a context that is like one.
    Broke(String),
}

/// Searches by episodes. `None` where that is no proof: the whole search must be made.
pub fn explore(
    session: Session,
    config: Config,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Option<Report>, Error> {
    let mut worker = Worker::new(session, config.reductions);
    let Some(live) = Liveness::new(worker.session.rules(), true) else { return Ok(None) };
    worker.look.live = Some(live);
    worker.look.uses = Some(Uses::new(&worker.session));
    // A few interrupted contexts show most of what there is to learn; then all are looked at.
    worker.sample = LEARN_FROM;
    for round in 1..=MOST_ROUNDS {
        let mut search = ByEpisodes::begin(&mut worker, config);
        let ended = search.run(&mut worker, stop, on_progress)?;
        let more = match (&mut worker.look.live, &mut worker.look.uses) {
            (Some(live), Some(uses)) => {
                let (more_live, more_used) = (live.settle(), uses.settle(live));
                if more_used {
                    worker.forget_chains(); // what stepping one shows depends on what is known to matter
                }
                more_live || more_used
            }
            _ => false,
        };
        let ByEpisodes { mut search, episodes, .. } = search;
        log::info!(
            "round {round}: arrivals in 1 of {} contexts; {episodes:?}, {} states; more matters: {more}",
            worker.sample,
            search.states.len()
        );
        search.report.rounds = round;
        search.report.episodes = Some(episodes);
        if worker.strayed {
            log::info!("by episodes it is not proved: a chain ended otherwise than one like it");
            return Ok(None);
        }
        match ended {
            Ended::Bound if search.report.bound == Some(Bound::Interrupted) => {
                return search.finish(std::slice::from_mut(&mut worker), false).map(Some);
            }
            Ended::Bound => return Ok(None), // what the whole search finds within the same bounds counts
            _ if more => {}
            Ended::Closed if worker.sample > 1 => worker.sample = 1,
            Ended::Closed if search.states.first_on_cycle().is_some() => return Ok(None),
            Ended::Closed => return search.finish(std::slice::from_mut(&mut worker), true).map(Some),
            Ended::Broke(why) => {
                log::info!("by episodes it is not proved: {why}");
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// A round under way: the search over contexts with no NMI live.
struct ByEpisodes {
    search: Search,
    /// How episodes end, by the twin and the edge that begins them.
    known: HashMap<(u128, Edge), Vec<Ending>>,
    episodes: Episodes,
}

impl ByEpisodes {
    fn begin(worker: &mut Worker, config: Config) -> Self {
        let search = Search::begin(worker, config);
        Self { search, known: HashMap::new(), episodes: Episodes::default() }
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
        if !delivers {
            let reductions = self.search.config.reductions;
            if let Some(reached) = worker.follow(id, state, Edge::Step, reductions, &self.search.states)? {
                if let To::Ends(verdict) = &reached.to
                    && !verdict.is_pass()
                {
                    return Ok(Some(Ended::Broke(verdict.to_string())));
                }
                if !matches!(reached.to, To::Ends(_)) && !reached.outermost {
                    return Ok(Some(Ended::Broke("an instruction of the interrupted code begins an episode".into())));
                }
                self.search.take(at, reached);
            }
        }
        let edge = if delivers { Edge::Step } else { Edge::NMI };
        if path::exists(state, mode, edge, self.search.config.reductions)
            && let Some(ended) = self.episode(worker, at, (id, state), edge, stop)?
        {
            return Ok(Some(ended));
        }
        self.search.report.bound = self.search.bound_hit(stop);
        Ok(self.search.report.bound.is_some().then_some(Ended::Bound))
    }

    /// The episode that begins with `edge`: searched in the twin, unless one like it was;
    /// then each of its endings, from the context itself.
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
        let twin = self.twin(worker, state);
        let key = (worker.hash(), edge);
        worker.look.twin = false;
        if !self.known.contains_key(&key) {
            if edge == Edge::NMI && !id.is_multiple_of(worker.sample) {
                return Ok(None); // this round only learns
            }
            self.episodes.searched += 1;
            worker.look.twin = true;
            let found = self.search_twin(worker, (id, twin), edge, stop);
            worker.look.twin = false;
            match found? {
                Ok(endings) => drop(self.known.insert(key, endings)),
                Err(ended) => return Ok(Some(ended)),
            }
        }
        let endings = &self.known[&key];
        for i in 0..endings.len() {
            if let Some(why) = self.end(worker, at, (id, state), key, i)? {
                return Ok(Some(Ended::Broke(why)));
            }
        }
        Ok(None)
    }

    /// The context's twin, put into the machine and looked at.
    fn twin(&self, worker: &mut Worker, state: &Packed) -> Packed {
        worker.look.twin = true;
        let twin = match &mut worker.look.uses {
            Some(uses) => state.twin(&mut uses.needs, &worker.session),
            None => state.clone(),
        };
        worker.packer.unpack(&twin, &mut worker.session);
        worker.packer.look(&worker.session);
        twin
    }

    /// Searches an episode. How it can end, or why the round does.
    fn search_twin(
        &mut self,
        worker: &mut Worker,
        (root, twin): (Id, Packed),
        edge: Edge,
        stop: &AtomicBool,
    ) -> Result<Result<Vec<Ending>, Ended>, Error> {
        let reductions = self.search.config.reductions;
        let mut endings: Vec<Ending> = Vec::new();
        let mut waves = BTreeMap::from([((0, 0), vec![(root, twin)])]);
        while let Some(((arrivals, edges), wave)) = waves.pop_first() {
            for (id, state) in &wave {
                let first = *id == root;
                for edge in [Edge::Step, Edge::NMI].into_iter().filter(|e| !first || *e == edge) {
                    let Some(reached) = worker.follow(*id, state, edge, reductions, &self.search.states)? else {
                        continue;
                    };
                    match first {
                        true => self.search.count(&reached), // the context itself was noted
                        false => self.search.note(&reached),
                    }
                    let at = (arrivals + u32::from(edge == Edge::NMI), edges + 1);
                    let hash = match &reached.to {
                        To::Ends(verdict) => return Ok(Err(Ended::Broke(format!("in a twin: {verdict}")))),
                        To::Known(hash) | To::New(hash, _) => *hash,
                    };
                    if reached.outermost {
                        if edge == Edge::Step && !first {
                            self.search.states.set_next(*id, Next::End);
                        }
                        if endings.iter().all(|e| e.hash != hash) {
                            let way = way(&self.search.states, root, *id, edge);
                            endings.push(Ending { way, hash, outside: worker.hash_of_ending() });
                        }
                        continue;
                    }
                    let new = self.search.states.add(hash, *id, edge);
                    let to = new.or_else(|| self.search.states.get(hash)).unwrap_or(*id);
                    if edge == Edge::Step && !first {
                        self.search.states.set_next(*id, Next::State(to));
                    }
                    match (new, reached.to) {
                        (Some(new), To::New(_, state)) => waves.entry(at).or_default().push((new, state)),
                        _ => self.search.report.merged += 1,
                    }
                }
            }
            self.search.report.bound = self.search.bound_hit(stop);
            if self.search.report.bound.is_some() {
                return Ok(Err(Ended::Bound));
            }
        }
        Ok(Ok(endings))
    }

    /// Runs one way that an episode ends from a context. What is wrong, where something is.
    fn end(
        &mut self,
        worker: &mut Worker,
        (arrivals, edges): (u32, u32),
        (id, state): (Id, &Packed),
        key: (u128, Edge),
        i: usize,
    ) -> Result<Option<String>, Error> {
        self.episodes.endings += 1;
        let ending = &self.known[&key][i];
        worker.packer.unpack(state, &mut worker.session);
        let last = ending.way.iter().rposition(|e| *e == Edge::NMI).unwrap_or(0);
        for edge in &ending.way[..=last] {
            path::follow(&mut worker.session, *edge, self.search.config.reductions, Some(&mut worker.look))?;
            if worker.session.verdict().is_some() {
                break;
            }
        }
        path::leave(&mut worker.session)?;
        if let Some(verdict) = worker.session.take_verdict() {
            return Ok(Some(format!("in a context whose twin passes: {verdict}")));
        }
        worker.packer.look(&worker.session);
        let (hash, packed) = (worker.hash(), worker.packer.pack(&worker.session));
        self.twin(worker, &packed);
        let same = worker.hash_of_ending() == ending.outside;
        worker.look.twin = false;
        if !same {
            return Ok(Some("an episode ends otherwise than its twin's".into()));
        }
        let nmis = ending.way.iter().filter(|e| **e == Edge::NMI).count() as u32;
        let at = (arrivals + nmis, edges + ending.way.len() as u32);
        let new = self.search.states.add_by(hash, id, &ending.way);
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

/// The edges from `root` to `id`, and then `edge`.
fn way(states: &States, root: Id, id: Id, edge: Edge) -> Vec<Edge> {
    let (from_ready, before) = (states.path(id), states.path(root).len());
    from_ready.into_iter().skip(before).chain([edge]).collect()
}
