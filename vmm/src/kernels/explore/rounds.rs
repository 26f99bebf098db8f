//! The whole search: by episodes where that is a proof, and otherwise without them; and the check of
//! what it came to, by cases.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::counters::Counters;
use super::episode::Episodes;
use super::graph::End;
use super::machine::{Asked, Search, begin};
use super::nmi_stack::NmiStack;
use super::paths::way;
use super::report::{Config, Found, Progress, Report};
use super::traced::Tracer;
use crate::inject::{Event, Gear};
use crate::kernels::case::Outcome;
use crate::kernels::error::LabError;
use crate::kernels::lab::Lab;
use crate::kernels::sweep::Sweep;

/// Rounds after which it is searched without episodes.
const MOST_ROUNDS: usize = 16;

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
    let mut first = Report { fault, counters: counters.all(), ..Report::default() };
    let unmask = config.unmask.then(|| {
        // Entry code that one NMI alone does not execute is that of nested ones, whose frames it
        // reads.
        let may = path.without_frame();
        first.left_out = Some(lab.path.boundaries.iter().filter(|b| !may.contains(&b.addr)).count());
        may
    });
    let asked = Asked { path, counters, fault, unmask };
    let mut live = BTreeSet::new();
    let leaves = NmiStack::of(&lab.pc, &asked.path, Some(&live))?.is_left_on(&asked.path);
    if leaves && !config.every_episode && !config.dead_words {
        for round in 1..=MOST_ROUNDS {
            let mut search = begin(lab, config, &asked, Some(&live))?;
            let mut episodes = Episodes::new(Tracer::new(&search.run.lab.pc));
            let done = Done::by(&mut search, config, Some(&mut episodes), &first, stop, progress)?;
            let known = live.len();
            live.extend(episodes.live());
            live.append(&mut search.live);
            log::info!(
                "round {round}: {} states, {} of {} episodes searched, {} words of the NMI stack are live",
                done.report.states,
                episodes.searched,
                episodes.contexts,
                live.len()
            );
            match (&done.end, &done.report.violation) {
                (End::Bound(_), _) => return done.confirmed(lab),
                _ if live.len() > known => {}
                (End::Closed, None) => return done.confirmed(lab),
                (End::Open(why), _) => {
                    log::info!("by episodes it is not proved: {why}");
                    break;
                }
                (_, found) => {
                    let verdict = found.as_ref().map(|found| found.verdict.to_string());
                    log::info!("by episodes it is not proved: {}", verdict.unwrap_or_default());
                    break;
                }
            }
        }
    }
    let mut search = begin(lab, config, &asked, None)?;
    Done::by(&mut search, config, None, &first, stop, progress)?.confirmed(lab)
}

/// A search that has ended.
struct Done {
    end: End,
    report: Report,
    /// Schedules of some ways that it passes.
    passes: Vec<Vec<Event>>,
}

impl Done {
    fn by(
        search: &mut Search<'_>,
        config: &Config,
        mut episodes: Option<&mut Episodes>,
        first: &Report,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, LabError> {
        let mut report = first.clone();
        let (end, start, graph) = search.close(config, episodes.as_deref_mut(), stop, progress, &mut report)?;
        let ways = episodes.as_ref().map_or(&[][..], |e| &e.ways);
        let mut passes = Vec::new();
        match &end {
            End::Broken(verdict, number, last) => {
                let schedule = search.schedule(&start, &way(&graph.nodes, ways, *number), *last)?;
                report.violation = Some(Found { verdict: verdict.clone(), schedule });
            }
            End::Open(why) | End::Bound(why) => report.open = Some(why.clone()),
            End::Closed => {}
        }
        if report.violation.is_none() {
            passes = search.returns(&start, &graph, ways, config.cross_check)?;
        }
        report.episodes = episodes.map(|e| (e.contexts, e.searched));
        search.go_home()?;
        Ok(Self { end, report, passes })
    }

    /// Runs again, as cases, what the search came to: its violation, or some of its passes.
    fn confirmed(self, lab: &mut Lab) -> Result<Report, LabError> {
        let mut report = self.report;
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
            return Ok(report);
        }
        for events in &self.passes {
            let seen = again(lab, events, Gear::Arm)?;
            report.cross_checked += 1;
            if !seen.verdict.is_pass() || seen.unreached > 0 {
                let schedule = brief(lab, events);
                report.open =
                    Some(format!("the search passes {schedule:?}, and the case that runs it is {}", seen.verdict));
                break;
            }
        }
        Ok(report)
    }
}

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
