//! The search itself: breadth first, from the interrupted place.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use iced_x86::InstructionInfoFactory;

use super::counters::{Counters, accesses, changes_deep};
use super::frame::Frame;
use super::paths::{Edge, NONE, Node, livelock, schedule};
use super::report::{Config, Found, Progress, Report};
use super::state::{Ghost, State};
use super::store::Store;
use crate::image::{Decoded, Flow};
use crate::inject::{At, Event, Gear};
use crate::kernels::case::{Outcome, Run, Step};
use crate::kernels::error::LabError;
use crate::kernels::lab::Lab;
use crate::kernels::sweep::Sweep;
use crate::oracle::{Invariant, Verdict};

/// States between two looks at progress.
const OFTEN: usize = 256;

/// What came of an edge.
enum Taken {
    State(Box<State>),
    /// It broke a rule, as far as the search can tell.
    Broken(Verdict),
    /// Nothing can be claimed, and why.
    Open(String),
}

struct Search<'a> {
    run: Run<'a>,
    store: Store,
    counters: Counters,
    frame: Frame,
    /// Where the handler may fault.
    fault: Option<At>,
    /// Where something else may unblock NMIs.
    unmask: Option<HashSet<u64>>,
    all_arrivals: bool,
    code: HashMap<u64, Option<Rc<Code>>>,
    factory: InstructionInfoFactory,
}

/// An instruction, and what was found out about it.
struct Code {
    decoded: Decoded,
    deep: bool,
    device: bool,
}

/// Searches from the lab's site.
pub fn search(
    lab: &mut Lab,
    config: &Config,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, LabError> {
    let mut sweep = Sweep::new(lab, 0, stop);
    if let Some(place) = &config.fault {
        sweep.fault_in_handler(place)?;
    }
    let fault = sweep.faults_at();
    let path = sweep.single()?;
    let prefix = sweep.first();
    let counters = Counters::of(lab, &prefix)?;
    let entry = lab.path().clone();
    let mut report = Report { fault, counters: counters.all(), ..Report::default() };
    let unmask = config.unmask.then(|| {
        // Entry code that one NMI alone does not execute is that of nested ones, whose frames it
        // reads.
        let may = path.without_frame();
        report.left_out = Some(entry.boundaries.iter().filter(|b| !may.contains(&b.addr)).count());
        may
    });
    let run = Run::new(lab, &[], Gear::Jump)?;
    let frame = if config.dead_words { Frame::none() } else { Frame::of(&run.lab.pc, &path)? };
    let store = Store::new(&run.lab.pc, counters.clone(), frame.clone())?;
    let (code, factory) = (HashMap::new(), InstructionInfoFactory::new());
    let mut search =
        Search { run, store, counters, frame, fault, unmask, all_arrivals: config.all_arrivals, code, factory };
    let nodes = search.close(config, stop, progress, &mut report)?;
    drop(search);
    finish(lab, config, &nodes, &mut report)?;
    Ok(report)
}

impl Search<'_> {
    fn close(
        &mut self,
        config: &Config,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
        report: &mut Report,
    ) -> Result<Vec<Node>, LabError> {
        let lab = &mut *self.run.lab;
        let start = self.store.capture(&mut lab.pc, &lab.snapshot, Ghost::default(), false)?;
        let root =
            Node { parent: NONE, edge: Edge::Start, addr: start.vcpu.regs.rip, quiet: NONE, home: true, arrivals: 0 };
        let (mut nodes, mut known) = (vec![root], HashMap::from([(start.hash(), 0u32)]));
        let mut frontier = VecDeque::from([(0u32, start)]);
        let mut open = HashSet::new();
        while let Some((number, state)) = frontier.pop_front() {
            if (number as usize).is_multiple_of(OFTEN) {
                progress(Progress { states: nodes.len(), frontier: frontier.len() });
            }
            let bound = match () {
                () if stop.load(Relaxed) => Some("it was interrupted".to_owned()),
                () if nodes.len() > config.max_states => Some(format!("it has more than {} states", config.max_states)),
                () => None,
            };
            if let Some(why) = bound {
                report.open = Some(why);
                frontier.push_front((number, state));
                break;
            }
            self.load(&state)?;
            if state.vcpu.events.nmi.masked == 0 {
                open.insert(state.vcpu.regs.rip);
            }
            let home = self.is_home(&state);
            if home && number != 0 {
                report.returns += 1;
                match self.judge(&state)? {
                    None | Some(Taken::State(_)) => {}
                    Some(Taken::Broken(verdict)) => {
                        report.violation = Some(Found { verdict, schedule: schedule(&nodes, number, Edge::On) });
                        break;
                    }
                    Some(Taken::Open(why)) => {
                        report.open = Some(why);
                        break;
                    }
                }
            }
            nodes[number as usize].home |= home;
            for edge in self.edges(&state, home) {
                report.edges += 1;
                let taken = self.take(&state, edge)?;
                let next = match taken {
                    Taken::State(next) => *next,
                    Taken::Broken(verdict) => {
                        report.violation = Some(Found { verdict, schedule: schedule(&nodes, number, edge) });
                        break;
                    }
                    Taken::Open(why) => {
                        report.open = Some(why);
                        break;
                    }
                };
                let (new, arrivals) = (nodes.len() as u32, nodes[number as usize].arrivals);
                let to = *known.entry(next.hash()).or_insert(new);
                if edge == Edge::On {
                    nodes[number as usize].quiet = to;
                }
                if to != new {
                    report.merged += 1;
                    continue;
                }
                let arrivals = arrivals + u32::from(matches!(edge, Edge::Nmi | Edge::Latch));
                report.arrivals = report.arrivals.max(arrivals);
                let addr = next.vcpu.regs.rip;
                nodes.push(Node { parent: number, edge, addr, quiet: NONE, home: false, arrivals });
                frontier.push_back((new, next));
            }
            if report.violation.is_some() || report.open.is_some() {
                break;
            }
        }
        (report.states, report.frontier, report.boundaries) = (nodes.len(), frontier.len(), open.len());
        let lab = &mut *self.run.lab;
        self.store.go_home(&mut lab.pc, &mut lab.snapshot)?;
        Ok(nodes)
    }

    fn load(&mut self, state: &State) -> Result<(), LabError> {
        let lab = &mut *self.run.lab;
        self.store.load(&mut lab.pc, &lab.snapshot, state)?;
        self.run.latched = state.ghost.latched;
        self.run.restart_clock()
    }

    /// Whether the interrupted code goes on here.
    fn is_home(&self, state: &State) -> bool {
        !state.ghost.latched && (self.run.is_home() || self.run.to_user())
    }

    /// What can happen in a state, to which the machine is put.
    fn edges(&self, state: &State, home: bool) -> Vec<Edge> {
        let (ghost, blocked) = (state.ghost, self.run.blocked());
        if ghost.latched && (!blocked || self.run.to_user()) {
            return vec![Edge::On];
        }
        if home {
            // The interrupted code itself is not gone on with.
            return vec![Edge::Nmi];
        }
        let at = state.vcpu.regs.rip;
        let mut edges = vec![Edge::On];
        if !ghost.latched && !blocked {
            edges.push(Edge::Nmi);
        }
        if !ghost.latched && blocked && self.all_arrivals {
            edges.push(Edge::Latch);
        }
        if blocked && self.unmask.as_ref().is_some_and(|may| may.contains(&at)) {
            edges.push(Edge::Unmask);
        }
        if self.fault.is_some_and(|fault| fault.addr == at) && !ghost.faulted {
            edges.push(Edge::Fault);
        }
        edges
    }

    /// Carries out an edge.
    fn take(&mut self, from: &State, edge: Edge) -> Result<Taken, LabError> {
        self.load(from)?;
        let mut ghost = from.ghost;
        let (before, given_before) = (self.run.lab.path.count(&self.run.lab.pc)?, self.run.delivered);
        let code = self.code();
        let (mut deep, mut returned) = (false, false);
        let step = match edge {
            Edge::Start => Step::On,
            Edge::Latch => {
                ghost = ghost.arrived();
                Step::On
            }
            Edge::Unmask => {
                self.run.lab.pc.state_mut().events.nmi.masked = 0;
                Step::On
            }
            Edge::Fault => {
                ghost.faulted = true;
                self.run.fault()?
            }
            Edge::Nmi => {
                ghost = ghost.arrived().delivered();
                self.run.deliver()?
            }
            Edge::On if ghost.latched && (!self.run.blocked() || self.run.to_user()) => {
                if self.run.to_user()
                    && let Some(verdict) = self.run.wrong_context()?
                {
                    return Ok(Taken::Broken(verdict));
                }
                ghost = ghost.delivered();
                self.run.deliver()?
            }
            Edge::On => {
                let Some(code) = &code else {
                    return Ok(Taken::Open(format!("no instruction at {:#x}", from.vcpu.regs.rip)));
                };
                let pc = &self.run.lab.pc;
                let accesses = accesses(pc, &code.decoded, &mut self.factory);
                let at = || pc.symbols.show(pc.rip());
                if self.counters.are_broken_by(&code.decoded, &accesses) {
                    return Ok(Taken::Open(format!("a word that was taken for a counter is looked at, at {}", at())));
                }
                if !ghost.frame && accesses.iter().any(|bytes| self.frame.has(*bytes)) {
                    return Ok(Taken::Open(format!("a frame that was held for dead is accessed, at {}", at())));
                }
                (deep, returned) = (code.deep, code.decoded.flow == Flow::Iret);
                ghost.faulted &= self.fault.is_none_or(|fault| fault.addr != from.vcpu.regs.rip);
                self.run.step()?
            }
        };
        if let Step::Over(verdict) = step {
            return Ok(match verdict {
                Verdict::HostLimit { why } => Taken::Open(why),
                verdict => Taken::Broken(verdict),
            });
        }
        let lab = &mut *self.run.lab;
        if code.is_some_and(|code| code.device) && !lab.pc.devices_are_as_in(&lab.snapshot) {
            let at = lab.pc.symbols.show(from.vcpu.regs.rip);
            return Ok(Taken::Open(format!("the state of a device changes, at {at}")));
        }
        // A kernel that does not count them has handled what it was given.
        let given = u32::from(self.run.delivered > given_before);
        let lab = &mut *self.run.lab;
        let by = lab.path.count(&lab.pc)?.zip(before).map_or(given, |(now, before)| now.wrapping_sub(before));
        let Some(mut ghost) = ghost.counted(by) else {
            return Ok(Taken::Broken(Verdict::breaks(Invariant::Bound, "more were handled than were delivered")));
        };
        ghost.frame = self.frame.lives(ghost.frame, returned, lab.pc.rip());
        let state = self.store.capture(&mut lab.pc, &lab.snapshot, ghost, deep)?;
        Ok(Taken::State(Box::new(state)))
    }

    /// The instruction that comes next. Code does not change while NMIs are handled, or else
    /// that is a change of memory.
    fn code(&mut self) -> Option<Rc<Code>> {
        let rip = self.run.lab.pc.rip();
        let pc = &self.run.lab.pc;
        let found = self.code.entry(rip).or_insert_with(|| {
            let decoded = pc.next_instruction()?;
            use iced_x86::Mnemonic::{In, Insb, Insd, Insw, Out, Outsb, Outsd, Outsw};
            let device = matches!(decoded.insn.mnemonic(), In | Insb | Insd | Insw | Out | Outsb | Outsd | Outsw);
            Some(Rc::new(Code { decoded, deep: changes_deep(&decoded), device }))
        });
        found.clone()
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
        let lab = &mut *self.run.lab;
        let later = passed_on(lab)?;
        self.store.go_home(&mut lab.pc, &mut lab.snapshot)?;
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
}

/// Why a search does not close where NMIs are passed on early.
const TOLD: &str = "what runs on the kernel is told of an NMI before the interrupted code goes on; whether it is told \
    after the last one came is not followed";

/// The same schedule as a case, which has the more time the more NMIs it has.
fn again(lab: &mut Lab, events: &[Event], gear: Gear) -> Result<Outcome, LabError> {
    let limit = lab.limit;
    lab.limit = limit * (1 + events.len() as u32 / 4);
    let seen = lab.case(events, gear);
    lab.limit = limit;
    seen
}

/// A schedule for a message, without its middle.
fn brief(lab: &Lab, events: &[Event]) -> String {
    const ENDS: usize = 4;
    match events.len() {
        n if n > 2 * ENDS => {
            format!("{} … {} ({n} events)", lab.show_schedule(&events[..ENDS]), lab.show_schedule(&events[n - ENDS..]))
        }
        _ => lab.show_schedule(events),
    }
}

/// Runs again, as a case, what the search came to: its violation, or some of its passes.
fn finish(lab: &mut Lab, config: &Config, nodes: &[Node], report: &mut Report) -> Result<(), LabError> {
    if report.violation.is_none() && report.open.is_none() {
        report.violation = livelock(nodes).map(|node| Found {
            verdict: Verdict::Livelock { detail: "the interrupted code is never come back to".into() },
            schedule: schedule(nodes, node, Edge::On),
        });
    }
    if let Some(found) = &mut report.violation {
        let seen = again(lab, &found.schedule, Gear::Jump)?;
        match seen.verdict.is_pass() || seen.unreached > 0 {
            true => {
                let schedule = brief(lab, &found.schedule);
                report.open = Some(format!(
                    "the search found {} by {schedule:?}, and the case that runs it does not",
                    found.verdict
                ));
                report.violation = None;
            }
            false => found.verdict = seen.verdict,
        }
        return Ok(());
    }
    let homes: Vec<u32> = (1..nodes.len() as u32).filter(|i| nodes[*i as usize].home).collect();
    let every = homes.len().div_ceil(config.cross_check.max(1)).max(1);
    for home in homes.iter().rev().step_by(every).take(config.cross_check) {
        let events: Vec<Event> = schedule(nodes, *home, Edge::On);
        let seen = again(lab, &events, Gear::Arm)?;
        report.cross_checked += 1;
        if !seen.verdict.is_pass() || seen.unreached > 0 {
            let schedule = brief(lab, &events);
            report.open =
                Some(format!("the search passes {schedule:?}, and the case that runs it is {}", seen.verdict));
            break;
        }
    }
    Ok(())
}
