//! Schemes side by side: what an NMI costs in each, and whether it survives.
//!
//! Costs are counted on stepped runs and are the same on every host; only the times
//! are this host's, and they stand apart.

mod count;
mod time;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

use crate::explore::{self, Bound, Config, explore};
use crate::host_id::HostId;
use crate::image::target::Target;
use crate::image::{Guest, Mode};
use crate::inject::{Limits, Places, RunError, Saved, Schedule, Session, Sweep};
use crate::kernels::Costs;
use crate::kvm::Host;
use crate::machine::{Knobs, Transport};
use crate::oracle::Verdict;

pub use count::{Broke, Counts, Span};

/// The scheme that times are set against.
pub const BASELINE: &str = "naive";

/// What to compare, and how thoroughly.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// States that the explorer may visit for each scheme; 0: no search.
    pub max_states: usize,
    /// NMIs that are timed for each scheme; 0: none.
    pub rounds: usize,
    /// The model's choices.
    pub knobs: Knobs,
}

/// A verdict over many runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// `pass`, `violation`, `livelock`, `shutdown`, `host-limit`; `open` where a search
    /// found nothing and did not end.
    pub verdict: String,
    /// The rule that is broken.
    pub invariant: Option<String>,
    /// What was seen, in one line.
    pub detail: Option<String>,
    /// A shortest schedule that shows it.
    pub schedule: Option<String>,
    /// Cases, or states.
    pub size: u64,
}

/// One scheme in one scenario. The same on every host whose KVM is exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Who owns the mask.
    pub mode: Mode,
    /// What an NMI costs: instructions, exits, bytes.
    pub counts: Counts,
    /// Bytes of per-CPU state outside stacks.
    pub per_cpu: u64,
    /// One NMI at every boundary.
    pub points: Judged,
    /// Every pattern of NMIs, as far as the search came.
    pub search: Option<Judged>,
}

/// What an NMI takes in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// NMIs that were timed.
    pub nmis: u64,
    /// Nanoseconds, median.
    pub median_ns: u64,
    /// Nanoseconds that 99 in 100 do not exceed.
    pub p99_ns: u64,
    /// Median over the median of [`BASELINE`] in the same run.
    pub ratio: Option<f64>,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where it was made.
    pub host: HostId,
    /// Hash of the guest image.
    pub image: String,
    /// What carried hypercalls.
    pub transport: Transport,
    /// By scenario, then as the schemes were named.
    pub rows: Vec<Row>,
    /// The real Xen, where one was named: what one NMI into its guest costs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub real: Vec<Costs>,
    /// This host's times; not the same twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Vec<Timing>>,
    /// It was interrupted: rows are missing.
    pub complete: bool,
}

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A machine or a run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A search failed.
    #[error(transparent)]
    Explore(#[from] explore::Error),
}

impl From<crate::machine::Error> for Error {
    fn from(e: crate::machine::Error) -> Self {
        Self::Run(e.into())
    }
}

/// Compares `targets`, which are ordered by scenario. `progress` is told what is next.
pub fn compare(
    host: &Host,
    guest: &Arc<Guest>,
    targets: &[Target],
    options: &Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&str),
) -> Result<Comparison, Error> {
    let (mut rows, mut timings) = (Vec::new(), Vec::new());
    for group in targets.chunk_by(|a, b| a.scenario == b.scenario) {
        let mut sessions = Vec::new();
        for t in group.iter().filter(|_| !stop.load(Relaxed)) {
            let mut session = Session::new(host, guest, &t.scheme, &t.scenario, options.knobs)?;
            let name = format!("{} / {}", t.scheme.name, t.scenario.name);
            progress(&format!("{name}: counting"));
            let (counts, at) = count::count(&mut session)?;
            progress(&format!("{name}: one NMI at every boundary"));
            let points = points(&mut session, stop)?;
            progress(&format!("{name}: every pattern of NMIs"));
            let search = search(host, guest, t, options, stop)?;
            if stop.load(Relaxed) {
                break; // what was cut short is no result
            }
            rows.push(Row {
                scheme: t.scheme.name.clone(),
                scenario: t.scenario.name.clone(),
                mode: t.scheme.mode,
                counts,
                per_cpu: count::per_cpu_bytes(&session),
                points,
                search,
            });
            sessions.push((t, session, at));
        }
        if options.rounds > 0 && !stop.load(Relaxed) {
            progress(&format!("{}: timing", group[0].scenario.name));
            timings.extend(times(&mut sessions, options.rounds)?);
        }
    }
    let transport = options.knobs.transport.unwrap_or_else(|| Transport::of_host(host));
    let complete = rows.len() == targets.len();
    let timings = (options.rounds > 0).then_some(timings);
    let (host, image) = (host.id().clone(), guest.image.hash.clone());
    Ok(Comparison { host, image, transport, rows, real: Vec::new(), timings, complete })
}

fn times(sessions: &mut [(&Target, Session, Option<Saved>)], rounds: usize) -> Result<Vec<Timing>, Error> {
    let mut about = Vec::new();
    let mut list = Vec::new();
    for (target, session, at) in sessions {
        let Some(at) = at.take() else { continue };
        about.push(*target);
        list.push(time::Timed { session, at, took: Vec::with_capacity(rounds) });
    }
    time::time(&mut list, rounds)?;
    let median = |took: &[u64]| time::quantile(took, 500);
    let base = about.iter().position(|t| t.scheme.name == BASELINE).and_then(|i| median(&list[i].took));
    let timing = |(target, timed): (&&Target, &time::Timed)| {
        let (median_ns, p99_ns) = (median(&timed.took)?, time::quantile(&timed.took, 990)?);
        Some(Timing {
            scheme: target.scheme.name.clone(),
            scenario: target.scenario.name.clone(),
            nmis: timed.took.len() as u64,
            median_ns,
            p99_ns,
            ratio: base.map(|b| median_ns as f64 / b.max(1) as f64),
        })
    };
    Ok(about.iter().zip(&list).filter_map(timing).collect())
}

/// One NMI at every boundary of the golden run.
fn points(session: &mut Session, stop: &AtomicBool) -> Result<Judged, Error> {
    let units = Sweep::units(session);
    let limits = Limits { depth: 1, recheck: 0, later: Arc::new(Places::All), first: vec![] };
    let mut sweep = Sweep::new(session, limits);
    let rules = sweep.rules();
    let (mut cases, mut worst) = (0, None);
    for unit in 0..units {
        let end = sweep.unit(unit, &mut |case| {
            cases += 1;
            if !case.verdict.is_pass() && worst.is_none() {
                worst = Some((case.verdict.clone(), Schedule(case.events.to_vec()).show(rules.names())));
            }
            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if end.is_break() {
            break;
        }
    }
    Ok(judged(worst, Verdict::Pass.word(), cases))
}

fn search(
    host: &Host,
    guest: &Arc<Guest>,
    target: &Target,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Option<Judged>, Error> {
    if options.max_states == 0 || stop.load(Relaxed) {
        return Ok(None);
    }
    let config = Config { max_states: options.max_states, ..Config::default() };
    let about = (&target.scheme, &target.scenario);
    let report = explore(host, guest, about, options.knobs, config, stop, &mut |_| {})?;
    let names = crate::image::Names::new(guest, &target.scheme.prefix);
    let found = report.violations.first().map(|f| (f.verdict.clone(), f.schedule.show(names)));
    let cut = matches!(report.bound, Some(Bound::States | Bound::Memory | Bound::Interrupted));
    let closed = !cut && report.contradiction().is_none();
    let otherwise = if closed { Verdict::Pass.word() } else { "open" };
    Ok(Some(judged(found, otherwise, report.states)))
}

fn judged(worst: Option<(Verdict, String)>, otherwise: &str, size: u64) -> Judged {
    let Some((verdict, schedule)) = worst else {
        return Judged { verdict: otherwise.to_owned(), invariant: None, detail: None, schedule: None, size };
    };
    Judged {
        verdict: verdict.word().to_owned(),
        invariant: verdict.invariant().map(|i| i.to_string()),
        detail: Some(verdict.detail().to_owned()),
        schedule: Some(schedule),
        size,
    }
}
