//! The search itself, from the interrupted place, fewest NMIs first.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::along::{Along, Taken};
use super::episode::Episodes;
use super::graph::{End, Graph, nmis};
use super::machine::Search;
use super::paths::{Edge, livelock, way};
use super::report::{Config, Progress, Report};
use super::state::{Ghost, State};
use crate::inject::Event;
use crate::kernels::error::LabError;
use crate::kernels::lab::Lab;
use crate::oracle::{Invariant, Verdict};

/// States between two looks at progress.
const OFTEN: usize = 256;

impl Search<'_> {
    /// Searches from where the machine stands. `episodes`, where there are any, are searched once for
    /// all contexts that are alike.
    pub fn close(
        &mut self,
        config: &Config,
        mut episodes: Option<&mut Episodes>,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
        report: &mut Report,
    ) -> Result<(End, State, Graph), LabError> {
        let lab = &mut *self.run.lab;
        let ghost = Ghost { dead: self.stack.at_first(), ..Ghost::default() };
        let start = self.store.capture(&mut lab.pc, &lab.snapshot, ghost, &[], false)?;
        let mut graph = Graph::of(start.clone());
        let mut open = HashSet::new();
        let mut end = End::Closed;
        'search: while let Some((number, state)) = graph.frontier.pop() {
            let states = graph.nodes.len() + episodes.as_ref().map_or(0, |e| e.states);
            if (number as usize).is_multiple_of(OFTEN) {
                progress(Progress { states, frontier: graph.frontier.len() });
            }
            let bound = match () {
                () if stop.load(Relaxed) => Some("it was interrupted".to_owned()),
                () if states > config.max_states => Some(format!("it has more than {} states", config.max_states)),
                () => None,
            };
            if let Some(why) = bound {
                end = End::Bound(why);
                let node = &graph.nodes[number as usize];
                graph.frontier.push((node.arrivals, node.instructions), number, state);
                break;
            }
            self.load(&state)?;
            if !self.run.blocked() {
                open.insert(state.vcpu.regs.rip);
            }
            // Where it begins, the interrupted code is about to go on, too.
            let home = number == 0 || self.is_home(state.ghost);
            if home && number != 0 {
                report.returns += 1;
                match self.judge(&state)? {
                    None | Some(Taken::State(_)) => {}
                    Some(Taken::Broken(verdict)) => {
                        end = End::Broken(verdict, number, Edge::On);
                        break;
                    }
                    Some(Taken::Open(why)) => {
                        end = End::Open(why);
                        break;
                    }
                }
            }
            graph.nodes[number as usize].home |= home;
            let edges = self.edges(state.ghost, home);
            for edge in edges.into_iter().flatten() {
                report.edges += 1;
                if let Some(episodes) = episodes.as_deref_mut().filter(|_| edge == Edge::Nmi)
                    && self.is_context(&state, home)
                {
                    if let Some(ended) = episodes.interrupt(self, number, &state, (config, stop), &mut graph, report)? {
                        end = ended;
                        break 'search;
                    }
                    continue;
                }
                let Along { taken, code, instructions, .. } = self.along(&state, edge, None)?;
                match taken {
                    Taken::State(next) => {
                        let new = graph.arrive(number, edge, (nmis(edge), instructions), code, *next);
                        report.merged += u64::from(!new);
                    }
                    Taken::Broken(verdict) => {
                        end = End::Broken(verdict, number, edge);
                        break 'search;
                    }
                    Taken::Open(why) => {
                        end = End::Open(why);
                        break 'search;
                    }
                }
            }
        }
        if let (End::Closed, Some(node)) = (&end, livelock(&graph.nodes)) {
            let verdict = Verdict::Livelock { detail: "the interrupted code is never come back to".into() };
            end = End::Broken(verdict, node, Edge::On);
        }
        if let Some(episodes) = &episodes {
            open.extend(&episodes.open);
        }
        report.states = graph.nodes.len() + episodes.as_ref().map_or(0, |e| e.states);
        report.arrivals = graph.nodes.iter().map(|n| n.arrivals).max().unwrap_or(0);
        (report.frontier, report.boundaries) = (graph.frontier.len(), open.len());
        Ok((end, start, graph))
    }

    /// Judges a state in which the interrupted code goes on: what is wrong, or not known, if anything.
    fn judge(&mut self, state: &State) -> Result<Option<Taken>, LabError> {
        let passed_on = |lab: &Lab| lab.kernel.passed_on(&lab.pc);
        let lab = &mut *self.run.lab;
        let mut changes = Vec::new();
        state.pages.iter().for_each(|(at, page)| lab.snapshot.words_changed(*at, &page.bytes[..], &mut changes));
        let told = passed_on(lab)?;
        let unserved = || Verdict::breaks(Invariant::Service, "lost: none was handled after the last came");
        let verdict = self.run.judge_home(&changes, state.ghost.owed.then(unserved))?;
        let later = passed_on(self.run.lab)?;
        self.go_home()?;
        self.load(state)?;
        Ok(match () {
            () if !verdict.is_pass() => Some(Taken::Broken(verdict)),
            () if told != self.run.passed_before => Some(Taken::Open(TOLD.into())),
            () if told.is_some() && later == told => {
                Some(Taken::Broken(Verdict::breaks(Invariant::Service, "lost: none was passed on after the last came")))
            }
            () => None,
        })
    }

    /// The schedules of ways to some of the states in which the interrupted code goes on, the last
    /// found first.
    pub fn returns(
        &mut self,
        start: &State,
        graph: &Graph,
        ways: &[Vec<Edge>],
        most: usize,
    ) -> Result<Vec<Vec<Event>>, LabError> {
        let homes: Vec<u32> = (1..graph.nodes.len() as u32).filter(|i| graph.nodes[*i as usize].home).collect();
        let every = homes.len().div_ceil(most.max(1)).max(1);
        let chosen = homes.iter().rev().step_by(every).take(most);
        chosen.map(|home| self.schedule(start, &way(&graph.nodes, ways, *home), Edge::On)).collect()
    }
}

/// Why a search does not close where NMIs are passed on early.
const TOLD: &str = "what runs on the kernel is told of an NMI before the interrupted code goes on; whether it is told \
    after the last one came is not followed";
