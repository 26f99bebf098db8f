//! Nested NMIs that are alike are searched once.
//!
//! Where a handler is interrupted that does not run on the NMI stack (that of an NMI from user code,
//! whose fault has unblocked NMIs), all that NMIs then do, until the last of them returns, is an
//! *episode*. It saves what it has interrupted and gives it back, and looks at little of it. So it
//! is searched from one such context, with every number, timing and nesting, while the model of the
//! CPU follows where each value comes from; KVM executes every instruction, too. What was looked at
//! makes a *class*. A context that shows the same executes the same instructions on every path of the
//! episode, so only the ways to its end are executed from there, on KVM.
//!
//! What may happen is that an episode is taken to be over that is not, or the other way round. It is
//! over when an iretq leads to the RIP and RSP of what it has interrupted with NMIs unblocked: then
//! what goes on is what was interrupted, whoever returned. Whether the same holds for another
//! context is not trusted, but executed.
//!
//! That is a proof where nothing is found. If a rule is broken, or something cannot be followed, the
//! whole search is made.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::along::{Along, Taken};
use super::graph::{End, Frontier, Graph, nmis};
use super::machine::Search;
use super::paths::{Edge, NONE, Node, livelock, way};
use super::report::{Config, Report};
use super::state::State;
use super::traced::Tracer;
use crate::cpu::{Looks, Origin, Place, Register, Traced};
use crate::kernels::error::LabError;

/// States of one episode beyond which following values costs more than it saves.
const MOST_STATES: usize = 200_000;

/// What was found out by episodes.
pub struct Episodes {
    tracer: Tracer,
    classes: HashMap<u128, Vec<Class>>,
    /// The ways through an episode, by number.
    pub ways: Vec<Vec<Edge>>,
    /// States of all episodes that were searched.
    pub states: usize,
    /// Instructions that they stood at with NMIs unblocked.
    pub open: HashSet<u64>,
    /// Contexts that were interrupted.
    pub contexts: u64,
    /// How many of them were searched.
    pub searched: u64,
}

/// What one episode has looked at, and how it can end.
struct Class {
    looks: Looks,
    endings: Vec<Ending>,
}

struct Ending {
    /// Its number.
    way: u32,
    /// NMIs on it, and instructions.
    length: (u32, u32),
    /// The instructions on it, as a number.
    code: u64,
}

/// An episode under way.
struct Episode {
    nodes: Vec<Node>,
    /// Where values come from in each state.
    traces: Vec<Box<Traced>>,
    known: HashMap<u128, u32>,
    frontier: Frontier,
    /// What was looked at on any path.
    all: Traced,
    /// Nodes, by the state that it ends in.
    ends: HashMap<u128, u32>,
}

impl Episodes {
    pub fn new(tracer: Tracer) -> Self {
        Self {
            tracer,
            classes: HashMap::new(),
            ways: Vec::new(),
            states: 0,
            open: HashSet::new(),
            contexts: 0,
            searched: 0,
        }
    }

    /// Words of the NMI stack that an episode reads before it writes them.
    pub fn live(&self) -> &BTreeSet<u64> {
        &self.tracer.live
    }

    /// An NMI arrives in a context: all that can come of it. Why the search ends, where it does.
    pub fn interrupt(
        &mut self,
        search: &mut Search<'_>,
        number: u32,
        context: &State,
        (config, stop): (&Config, &AtomicBool),
        graph: &mut Graph,
        report: &mut Report,
    ) -> Result<Option<End>, LabError> {
        self.contexts += 1;
        search.load(context)?;
        let key = context.key();
        let fits = |class: &Class| search.looks_at(context, |inputs| class.looks.agree(inputs));
        let found = self.classes.get(&key).and_then(|list| list.iter().position(fits));
        let found = match found {
            Some(found) => found,
            None => {
                if let Some(class) = self.classes.get(&key).and_then(|list| list.first()) {
                    let misfit = search.looks_at(context, |inputs| class.looks.misfit(inputs));
                    log::debug!("another class: {}", misfit.unwrap_or_default());
                }
                match self.search(search, context, (config, stop), report)? {
                    Err(end) => return Ok(Some(end)),
                    Ok(class) => {
                        let list = self.classes.entry(key).or_default();
                        list.push(class);
                        list.len() - 1
                    }
                }
            }
        };
        let endings = &self.classes[&key][found].endings;
        for ending in endings {
            let mut state = context.clone();
            let mut codes = Codes::default();
            for edge in &self.ways[ending.way as usize] {
                let Along { taken, code, .. } = search.along(&state, *edge, None)?;
                match taken {
                    Taken::State(next) => state = *next,
                    Taken::Broken(verdict) => {
                        return Ok(Some(End::Open(format!("an episode does not end as its class does: {verdict}"))));
                    }
                    Taken::Open(why) => return Ok(Some(End::Open(why))),
                }
                codes.add(code);
            }
            let (was, is) = (&context.vcpu.regs, &state.vcpu.regs);
            if codes.digest() != ending.code || (was.rip, was.rsp) != (is.rip, is.rsp) {
                return Ok(Some(End::Open("a context executes other instructions than its class".into())));
            }
            let new = graph.arrive(number, Edge::Through(ending.way), ending.length, ending.code, state);
            report.merged += u64::from(!new);
        }
        Ok(None)
    }

    /// Searches the episode that interrupts a context.
    fn search(
        &mut self,
        search: &mut Search<'_>,
        context: &State,
        (config, stop): (&Config, &AtomicBool),
        report: &mut Report,
    ) -> Result<Result<Class, End>, LabError> {
        self.searched += 1;
        let mut episode = Episode::of(context);
        while let Some((number, state)) = episode.frontier.pop() {
            let states = self.states + episode.nodes.len();
            match () {
                () if stop.load(Relaxed) => return Ok(Err(End::Bound("it was interrupted".into()))),
                () if states > config.max_states => {
                    return Ok(Err(End::Bound(format!("it has more than {} states", config.max_states))));
                }
                () if episode.nodes.len() > MOST_STATES => {
                    return Ok(Err(End::Open(format!("an episode has more than {MOST_STATES} states"))));
                }
                () => {}
            }
            search.load(&state)?;
            if search.run.to_user() {
                return Ok(Err(End::Open("an episode goes on in user code".into())));
            }
            if number != 0 && !search.run.blocked() {
                self.open.insert(state.vcpu.regs.rip);
            }
            let edges = search.edges(state.ghost, false);
            for edge in edges.into_iter().flatten().filter(|edge| number != 0 || *edge == Edge::Nmi) {
                report.edges += 1;
                let mut trace = episode.traces[number as usize].clone();
                let regs = &context.vcpu.regs;
                let mut following = self.tracer.follow((regs.rip, regs.rsp), &mut trace);
                let Along { taken, code, instructions, back } = search.along(&state, edge, Some(&mut following))?;
                match taken {
                    Taken::State(next) => {
                        let matters =
                            |paddr| search.stack.matters(next.ghost.dead, paddr) && !search.counters.have(paddr);
                        let new = episode.take((number, edge, code, instructions), trace, *next.clone(), back, matters);
                        report.merged += u64::from(!new);
                    }
                    Taken::Broken(verdict) => {
                        return Ok(Err(End::Open(format!("an episode breaks a rule: {verdict}"))));
                    }
                    Taken::Open(why) => return Ok(Err(End::Open(why))),
                }
            }
        }
        self.states += episode.nodes.len() - 1;
        if livelock(&episode.nodes).is_some() {
            return Ok(Err(End::Open("an episode has no end".into())));
        }
        search.load(context)?;
        Ok(Ok(episode.class(search, context, &mut self.ways)))
    }
}

impl Episode {
    fn of(context: &State) -> Self {
        let mut frontier = Frontier::default();
        frontier.push((0, 0), 0, context.clone());
        Self {
            nodes: vec![Node::root()],
            traces: vec![Box::default()],
            known: HashMap::new(),
            frontier,
            all: Traced::new(),
            ends: HashMap::new(),
        }
    }

    /// An edge has led to `next`; `back`: to the end. Whether it is new.
    fn take(
        &mut self,
        (from, edge, code, instructions): (u32, Edge, u64, u32),
        mut trace: Box<Traced>,
        next: State,
        back: bool,
        matters: impl Fn(u64) -> bool,
    ) -> bool {
        self.all.take_looks(&mut trace);
        let new = self.nodes.len() as u32;
        let list = if back { &mut self.ends } else { &mut self.known };
        let to = *list.entry(next.hash()).or_insert(new);
        if edge == Edge::On {
            self.nodes[from as usize].quiet = to;
        }
        if to != new {
            let known = &mut self.traces[to as usize];
            known.join(&trace, matters);
            self.all.take_looks(known);
            return false;
        }
        let node = self.nodes[from as usize].then(from, edge, code, (nmis(edge), instructions));
        if !back {
            self.frontier.push((node.arrivals, node.instructions), new, next);
        }
        self.nodes.push(Node { home: back, ..node });
        self.traces.push(trace);
        true
    }

    /// Nothing is left to go on from. The machine is in the context.
    fn class(mut self, search: &Search<'_>, context: &State, ways: &mut Vec<Vec<Edge>>) -> Class {
        let mut ends: Vec<u32> = self.ends.values().copied().collect();
        ends.sort_unstable();
        let mut endings = Vec::new();
        for end in ends {
            // What is not given back as it was is looked at.
            for register in Register::all().filter(|r| *r != Register::Flags) {
                let own = |i: usize| Origin::Copy(Place::Register(register, i as u8));
                let origins = self.traces[end as usize].register_origins(register);
                if (0..8).any(|i| origins[i] != own(i)) {
                    self.all.look_at_register(register);
                }
            }
            let mut codes = Vec::new();
            let mut at = end;
            while self.nodes[at as usize].parent != NONE {
                codes.push(self.nodes[at as usize].code);
                at = self.nodes[at as usize].parent;
            }
            let mut digest = Codes::default();
            codes.iter().rev().for_each(|code| digest.add(*code));
            let last = &self.nodes[end as usize];
            let length = (last.arrivals, last.instructions);
            endings.push(Ending { way: ways.len() as u32, length, code: digest.digest() });
            ways.push(way(&self.nodes, &[], end));
        }
        let looks = search.looks_at(context, |inputs| Looks::of(&self.all, inputs));
        let looks = looks.without(|paddr| search.counters.have(paddr));
        log::debug!(
            "an episode at {:#x}: {} states, {} endings; it looks at {looks}",
            context.vcpu.regs.rip,
            self.nodes.len(),
            endings.len()
        );
        Class { looks, endings }
    }
}

/// The instructions of several edges, as a number.
#[derive(Default)]
struct Codes(xxhash_rust::xxh3::Xxh3Default);

impl Codes {
    fn add(&mut self, code: u64) {
        self.0.update(&code.to_le_bytes());
    }

    fn digest(&self) -> u64 {
        self.0.digest()
    }
}
