//! `generate = "closure"`: the explorer's search as one unit of a campaign.

use std::sync::atomic::AtomicBool;

use super::error::Error;
use super::generate::Closure;
use super::plan::{Cell, Plan};
use super::tally::{Disagreement, Rank, Tally};
use crate::explore::{self, Bound, Config, Reductions, Report};
use crate::image::Names;
use crate::kvm::Host;
use crate::machine;
use crate::oracle::Verdict;

/// Most bytes that one search may take.
const MEMORY: usize = 2 << 30;

/// Searches one cell. Returns what was found, and whether the search came to its end.
pub fn search(
    plan: &Plan,
    cell: &Cell,
    bounds: &Closure,
    host: &Host,
    stop: &AtomicBool,
) -> Result<(Tally, bool), Error> {
    let (scheme, scenario) = (&cell.target.scheme, &cell.target.scenario);
    let knobs = plan.campaign.knobs;
    // Cells are searched side by side, one on each thread.
    let reductions = Reductions { events: bounds.events.iter().copied().collect(), ..Reductions::default() };
    let config = Config { max_memory: MEMORY, max_states: bounds.max_states, reductions, ..Config::default() };
    let found = explore::explore(host, &plan.guest, (scheme, scenario), knobs, config, stop, &mut |_| {});
    let report = found.map_err(|e| Error::Machine {
        scheme: scheme.name.clone(),
        scenario: scenario.name.clone(),
        why: match e {
            explore::Error::Machine(e) => e,
            other => machine::Error::Host(other.to_string()),
        },
    })?;
    Ok((
        tally(&report, cell.first_unit, Names::new(&plan.guest, &scheme.prefix)),
        report.bound != Some(Bound::Interrupted),
    ))
}

fn tally(report: &Report, unit: u64, names: Names) -> Tally {
    let mut tally = Tally::default();
    for (index, found) in report.violations.iter().enumerate() {
        let rank = Rank { events: found.schedule.0.len(), unit, index: index as u64 };
        tally.add(&found.verdict, rank, || found.schedule.show(names));
    }
    if let Some(Bound::States | Bound::Memory) = report.bound {
        // What was not searched to its end is never a pass.
        let why = format!("not closed: a limit was hit at {} states, frontier {}", report.states, report.frontier);
        tally.add(&Verdict::HostLimit { why }, Rank { events: 0, unit, index: u64::MAX }, String::new);
    }
    if let (None, Some(contradiction)) = (report.bound, report.contradiction()) {
        let why = format!("not closed: the search is contradicted ({contradiction:?}); vmm explore says how");
        tally.add(&Verdict::HostLimit { why }, Rank { events: 0, unit, index: u64::MAX }, String::new);
    }
    tally.add_passes(report.states.saturating_sub(tally.cases));
    if report.stepped {
        tally.stepped = tally.passed();
    }
    tally.rechecked = report.cross_checked;
    tally.coverage = report.coverage.clone();
    tally.closed = report.is_closed();
    tally.reads_time = report.reads_time.map(|at| names.show(at));
    if report.disagreements > 0 {
        let words =
            format!("{} of {} explored paths came to another verdict", report.disagreements, report.cross_checked);
        let verdicts = vec![("explore".to_owned(), words)];
        tally.disagreements.push(Disagreement { schedule: String::new(), verdicts });
    }
    tally
}
