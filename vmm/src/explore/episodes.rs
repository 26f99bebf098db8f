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
//! Contexts are taken in *generations*: all that the interrupted code comes to from those known so
//! far with nothing arriving; then their episodes, on all threads. What a generation comes to does
//! not depend on the number of threads.
//!
//! That is a proof where nothing is found. A violation is not reported from here: the
//! whole search then finds it, by a shortest schedule.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicBool;

use super::class::{Class, Key};
use super::config::{Bound, Config, Deviation, Episodes, Error, Report};
use super::episode::{Context, Ended, Executed, Limits};
use super::packed::Packed;
use super::path;
use super::progress::Progress;
use super::search::{LEARN_FROM, Search};
use super::states::{Edge, Id, Next};
use super::threads::in_order;
use super::worker::{To, Worker, more_is_live};
use crate::machine::Engine;
use crate::oracle::Verdict;

/// Rounds of learning after which it is left to the whole search.
const MOST_ROUNDS: u32 = 50;

/// Contexts of one generation, and episodes that are searched at once, at most.
const GENERATION: usize = 4096;
const AT_ONCE: usize = 64;

/// What a search by episodes has seen that is no proof. The whole search must not be without it.
#[derive(Default)]
pub struct Seen {
    /// A rule was broken, in a run from a state that is reached.
    pub verdict: Option<Verdict>,
    /// KVM came to another state than the model.
    pub deviations: Vec<Deviation>,
}

impl Seen {
    fn by(workers: &[Worker], verdict: Option<Verdict>) -> Self {
        Self { verdict, deviations: workers.iter().flat_map(|w| w.deviations.iter().cloned()).collect() }
    }
}

/// Searches by episodes. An error value is what it saw where that is no proof: the whole search
/// must be made.
pub fn explore(
    mut workers: Vec<Worker>,
    config: Config,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Result<Report, Seen>, Error> {
    let usable = |w: &Worker| w.session.machine().engine() == Engine::Model && w.look.live.is_some();
    if !workers.iter().all(usable) {
        return Ok(Err(Seen::default()));
    }
    // A few interrupted contexts show most of what there is to learn; then all are looked at.
    let mut sample = LEARN_FROM;
    // Once all contexts were looked at, the words that are held for dead hold poison.
    let mut poison = false;
    for round in 1..=MOST_ROUNDS {
        let mut poisoned = 0;
        for worker in &mut workers {
            (worker.sample, poisoned) = (sample, worker.poison(poison));
        }
        let mut search = ByEpisodes::begin(&mut workers[0], config);
        let ended = match search.run(&mut workers, stop, on_progress) {
            Err(e) if e.is_interruption() => Some(Ended::Bound(Bound::Interrupted)),
            ended => ended?,
        };
        let more = more_is_live(&mut workers);
        let ByEpisodes { mut search, episodes, goes_round, .. } = search;
        log::info!(
            "round {round}: arrivals in 1 of {sample} contexts; {episodes:?}, {} states; poison in {poisoned} words; more words are live: {more}",
            search.states.len()
        );
        search.report.poisoned = poisoned as u64;
        search.report.rounds = round;
        search.report.episodes = Some(episodes);
        match ended {
            Some(Ended::Bound(Bound::Interrupted)) => {
                search.report.bound = Some(Bound::Interrupted);
                return search.finish(&mut workers, false).map(Ok);
            }
            // What the whole search finds within the same bounds counts.
            Some(Ended::Bound(_)) => return Ok(Err(Seen::by(&workers, None))),
            Some(_) if poison && more => poison = false, // it may have been read
            Some(Ended::Open(why)) => {
                log::info!("by episodes it is not proved: {why}");
                return Ok(Err(Seen::by(&workers, None)));
            }
            Some(Ended::Broken(verdict)) => {
                log::info!("by episodes it is not proved: {verdict}");
                return Ok(Err(Seen::by(&workers, Some(verdict))));
            }
            None if more => poison = !poison && sample == 1,
            None if sample > 1 => sample = 1,
            None if !poison => poison = true,
            None if goes_round || search.states.first_on_cycle().is_some() => {
                return Ok(Err(Seen::by(&workers, None)));
            }
            None => return search.finish(&mut workers, true).map(Ok),
        }
    }
    Ok(Err(Seen::by(&workers, None)))
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

    /// The round. Why it ends, where that is not because nothing new appeared.
    fn run(
        &mut self,
        workers: &mut [Worker],
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Ended>, Error> {
        loop {
            let (contexts, ended) = self.generation(&mut workers[0], stop)?;
            if ended.is_some() || contexts.is_empty() {
                return Ok(ended);
            }
            if let Some(ended) = self.interrupt(workers, &contexts, stop, on_progress)? {
                return Ok(Some(ended));
            }
            self.search.frontier -= contexts.len();
            self.search.frontier_bytes -= contexts.iter().map(|c| c.state.bytes()).sum::<usize>();
            on_progress(self.progress(&contexts));
        }
    }

    /// How far it is while these contexts are looked at.
    fn progress(&self, contexts: &[Context]) -> Progress {
        Progress {
            states: self.search.states.len() as u64 + self.episodes.states,
            frontier: self.search.frontier as u64,
            arrivals: contexts.iter().map(|c| c.at.0).max().unwrap_or(0),
        }
    }

    /// What the interrupted code comes to from the contexts that are known, with nothing arriving:
    /// those among them in which something can arrive.
    fn generation(&mut self, worker: &mut Worker, stop: &AtomicBool) -> Result<(Vec<Context>, Option<Ended>), Error> {
        let mode = worker.session.machine().mode();
        let reductions = self.search.config.reductions;
        let mut contexts = Vec::new();
        while contexts.len() < GENERATION
            && let Some((at, wave)) = self.search.waves.pop_first()
        {
            for (id, state) in wave {
                let delivers = state.pending(mode) && !state.blocked(mode) && state.vcpu().events.interrupt.shadow == 0;
                if !delivers && let Some(ended) = self.step(worker, at, (id, &state))? {
                    return Ok((contexts, Some(ended)));
                }
                let first = if delivers { Edge::Step } else { Edge::NMI };
                if path::exists(&state, &worker.session, first, reductions) {
                    contexts.push(Context { id, at, state, first });
                } else {
                    self.search.frontier -= 1;
                    self.search.frontier_bytes -= state.bytes();
                }
            }
            if let Some(bound) = self.search.bound_hit(stop) {
                return Ok((contexts, Some(Ended::Bound(bound))));
            }
        }
        Ok((contexts, None))
    }

    /// Follows the instruction edge of a context.
    fn step(
        &mut self,
        worker: &mut Worker,
        at: (u32, u32),
        (id, state): (Id, &Packed),
    ) -> Result<Option<Ended>, Error> {
        let reductions = self.search.config.reductions;
        let Some(reached) = worker.follow(id, state, Edge::Step, reductions, &self.search.states)? else {
            return Ok(None);
        };
        match &reached.to {
            To::Ends(verdict) if !verdict.is_pass() => return Ok(Some(Ended::Broken(verdict.clone()))),
            To::Known(_) | To::New(..) if worker.session.oracle().ghost.outer.is_some() => {
                return Ok(Some(Ended::Open("an instruction of the interrupted code begins an episode".into())));
            }
            _ => {}
        }
        self.search.take(at, reached);
        Ok(None)
    }

    /// The episodes of these contexts: searched, unless one of their class was; then every ending of
    /// each, from the context itself.
    fn interrupt(
        &mut self,
        workers: &mut [Worker],
        contexts: &[Context],
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Ended>, Error> {
        self.episodes.all += contexts.len() as u64;
        let keyed = in_order(workers, contexts.len(), |worker, i| Ok(contexts[i].look(worker)), |_| false)?;
        for (context, (_, stand)) in contexts.iter().zip(&keyed) {
            self.search.stands(*stand, context.first);
        }
        let keys: Vec<Key> = keyed.into_iter().map(|(key, _)| key).collect();
        let mut classes: Vec<Option<usize>> = vec![None; contexts.len()];
        let mut open: Vec<usize> = (0..contexts.len()).collect();
        loop {
            // Those that are of no class yet; and for each whether a class of its kind executes its code.
            let found = in_order(
                workers,
                open.len(),
                |worker, n| Ok(contexts[open[n]].class(worker, self.known.get(&keys[open[n]]))),
                |_| false,
            )?;
            let mut left = Vec::new();
            for (i, found) in open.into_iter().zip(found) {
                classes[i] = found.class;
                if found.class.is_none() && !contexts[i].is_left_out(workers[0].sample) {
                    left.push((i, found.executed));
                }
            }
            // Of contexts that may be alike, only one is searched: that with the least unused stack, since
            // those with more fit its class, and not the other way round. Those at different
            // instructions that the episode executes never are alike; but one of them can be of a class
            // whose episodes do not execute its code, and so they wait for the others.
            let first: HashSet<Key> = left.iter().filter(|(_, executed)| !executed).map(|(i, _)| keys[*i]).collect();
            let mut chosen = BTreeMap::new();
            for (i, executed) in left.iter().filter(|(i, executed)| !executed || !first.contains(&keys[*i])) {
                let state = &contexts[*i].state;
                let deepest = chosen.entry((keys[*i], executed.then(|| state.rip()))).or_insert((state.rsp(), *i));
                *deepest = (*deepest).min((state.rsp(), *i));
            }
            let mut batch: Vec<usize> = chosen.into_values().map(|(_, i)| i).collect();
            batch.sort_unstable();
            batch.truncate(AT_ONCE);
            if batch.is_empty() {
                break;
            }
            let limits = Limits {
                reductions: self.search.config.reductions,
                states: self
                    .search
                    .config
                    .max_states
                    .saturating_sub(self.search.states.len() + self.episodes.states as usize),
            };
            let bound = |_: &mut Worker| self.search.bound_hit(stop);
            let searched = in_order(
                workers,
                batch.len(),
                |worker, n| contexts[batch[n]].search(worker, limits, &bound),
                Result::is_err,
            )?;
            for (i, searched) in batch.into_iter().zip(searched) {
                let searched = match searched {
                    Ok(searched) => searched,
                    Err(ended) => return Ok(Some(ended)),
                };
                self.episodes.searched += 1;
                self.episodes.states += searched.states;
                self.goes_round |= searched.goes_round;
                self.search.absorb(searched.edges, searched.merged, searched.max_nesting, &searched.coverage);
                self.known.entry(keys[i]).or_default().push(searched.class);
            }
            on_progress(self.progress(contexts));
            open = left.into_iter().map(|(i, _)| i).collect();
        }
        self.endings(workers, contexts, &keys, &classes, stop)
    }

    /// Executes every way to end from every context that has a class.
    fn endings(
        &mut self,
        workers: &mut [Worker],
        contexts: &[Context],
        keys: &[Key],
        classes: &[Option<usize>],
        stop: &AtomicBool,
    ) -> Result<Option<Ended>, Error> {
        let all: Vec<(usize, usize, usize)> = (0..contexts.len())
            .filter_map(|i| Some((i, classes[i]?)))
            .flat_map(|(i, class)| (0..self.known[&keys[i]][class].endings.len()).map(move |ending| (i, class, ending)))
            .collect();
        let reductions = self.search.config.reductions;
        for part in all.chunks(GENERATION) {
            let states = &self.search.states;
            let known = &self.known;
            let execute = |worker: &mut Worker, n: usize| {
                let (i, class, ending) = part[n];
                contexts[i].end(worker, &known[&keys[i]][class].endings[ending].way, reductions, states)
            };
            for ((i, class, ending), executed) in
                part.iter().zip(in_order(workers, part.len(), execute, Result::is_err)?)
            {
                self.episodes.endings += 1;
                let executed = match executed {
                    Ok(executed) => executed,
                    Err(ended) => return Ok(Some(ended)),
                };
                if let Some(ended) = self.take_ending(&contexts[*i], (keys[*i], *class, *ending), executed) {
                    return Ok(Some(ended));
                }
            }
            if let Some(bound) = self.search.bound_hit(stop) {
                return Ok(Some(Ended::Bound(bound)));
            }
        }
        Ok(None)
    }

    /// Takes note of where a way to end has led.
    fn take_ending(
        &mut self,
        context: &Context,
        (key, class, i): (Key, usize, usize),
        Executed { code, hash, state }: Executed,
    ) -> Option<Ended> {
        let Some(ending) = self.known.get_mut(&key).and_then(|list| list[class].endings.get_mut(i)) else {
            return Some(Ended::Open("an episode ends in a way that is not known".into()));
        };
        // The contexts of a class execute the same instructions: if not, what it looks at is not all.
        if *ending.code.get_or_insert(code) != code {
            return Some(Ended::Open("a context executes other instructions than its class".into()));
        }
        let nmis = ending.way.iter().filter(|e| e.event().is_some()).count() as u32;
        let at = (context.at.0 + nmis, context.at.1 + ending.way.len() as u32);
        let new = self.search.states.add_by(hash, context.id, &ending.way);
        if nmis == 0
            && let Some(to) = new.or_else(|| self.search.states.get(hash))
        {
            self.search.states.set_next(context.id, Next::State(to));
        }
        match (new, state) {
            (Some(new), Some(state)) => self.search.keep(new, at, state),
            (Some(_), None) => return Some(Ended::Open("a state that was known is not".into())),
            (None, _) => self.search.report.merged += 1,
        }
        None
    }
}
