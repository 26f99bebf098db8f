//! How long restores and cases take.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::arrival::Start;
use super::campaign::Part;
use super::error::LabError;
use super::explore::{Config, explore};
use super::kind::Kind as Nmis;
use super::lab::Lab;
use super::pc::Assists;
use super::row::KernelInfo;
use super::sweep::Sweep;
use crate::host_id::HostId;
use crate::inject::{Event, Gear, Kind};
use crate::oracle::Verdict;

const ROUNDS: usize = 400;
/// As `vmm linux --sweep` has it.
const RECHECK: u64 = 16;
/// Beyond what the search of any sound kernel has.
const MOST_STATES: usize = 2_000_000;
/// NMIs as the CPU left them, and unblocked.
const NMIS: [Nmis; 2] = [Nmis::Masked, Nmis::Unmasked];

/// What whole sweeps and a whole search take.
#[derive(Clone, Debug, Serialize)]
pub struct Whole {
    /// Cases of NMI #2 and #3, blocked and unblocked, at three sites, on one thread.
    pub cases: u64,
    /// Of these, how many must pass, and were livelocks.
    pub false_livelocks: u64,
    /// Wall time of all of them.
    pub sweeps_seconds: f64,
    /// The same in units of one KVM_RUN.
    pub sweeps_kvm_runs: f64,
    /// States of the search at the default site, whose handler may fault.
    pub states: usize,
    /// Whether it passed and closed.
    pub closed: bool,
    /// Wall time of the search.
    pub search_seconds: f64,
    /// The same in units of one KVM_RUN.
    pub search_kvm_runs: f64,
}

/// The measurements: medians, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// Where they were made.
    pub host: HostId,
    /// What was run.
    pub kernel: KernelInfo,
    /// What help the host needed.
    pub assists: Assists,
    /// One KVM_RUN to a HLT and back, in the same run: a measure of the host.
    pub kvm_run_ns: u64,
    /// Boundaries of one NMI's path, from where the first NMI arrives.
    pub boundaries: usize,
    /// Pages that a restore puts back.
    pub restore_pages: usize,
    /// A restore after a case.
    pub restore_ns: u64,
    /// A case, from the restore to its verdict: by the vCPU's events, and by `KVM_NMI`.
    pub one_nmi: Gears,
    /// The same with an NMI #2 that is latched.
    pub two_nmis_latched: Gears,
    /// The same with an NMI #2 that nests.
    pub two_nmis_nested: Gears,
    /// What whole sweeps and a search take, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
}

/// One case by either way to raise NMIs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gears {
    /// By the vCPU's events.
    pub jump_ns: u64,
    /// By `KVM_NMI`.
    pub arm_ns: u64,
}

/// Measures a booted lab, on a host where one KVM_RUN takes `kvm_run_ns`; `whole`: whole sweeps and a
/// search, too.
pub fn bench(lab: &mut Lab, kernel: KernelInfo, kvm_run_ns: u64, whole: bool) -> Result<Bench, LabError> {
    let one = vec![Event { kind: Kind::Nmi, at: lab.start() }];
    let path = lab.walk(&one)?;
    let in_c = path.visits.iter().find(|v| v.frame_read_at.is_none()).map_or(lab.start(), |v| v.at);
    let latched = [one.clone(), vec![Event { kind: Kind::Nmi, at: in_c }]].concat();
    let nested =
        [one.clone(), vec![Event { kind: Kind::Unmask, at: in_c }, Event { kind: Kind::Nmi, at: in_c }]].concat();
    let mut restore_pages = 0;
    let restore_ns = median(|| {
        lab.case(&one, Gear::Jump)?;
        let start = Instant::now();
        restore_pages = lab.restore()?;
        Ok(start.elapsed())
    })?;
    let mut case = |events: &[Event]| -> Result<Gears, LabError> {
        let mut each = |gear| {
            median(|| {
                let start = Instant::now();
                lab.case(events, gear)?;
                Ok(start.elapsed())
            })
        };
        Ok(Gears { jump_ns: each(Gear::Jump)?, arm_ns: each(Gear::Arm)? })
    };
    let (one_nmi, two_nmis_latched, two_nmis_nested) = (case(&one)?, case(&latched)?, case(&nested)?);
    Ok(Bench {
        host: lab.host().clone(),
        kernel,
        assists: lab.pc().assists(),
        kvm_run_ns,
        boundaries: path.visits.len(),
        restore_pages,
        restore_ns,
        one_nmi,
        two_nmis_latched,
        two_nmis_nested,
        whole: whole.then(|| measure_whole(lab, kvm_run_ns)).transpose()?,
    })
}

fn measure_whole(lab: &mut Lab, kvm_run_ns: u64) -> Result<Whole, LabError> {
    let never = AtomicBool::new(false);
    let in_kvm_runs = |seconds: f64| seconds * 1e9 / kvm_run_ns.max(1) as f64;
    let (mut cases, mut false_livelocks) = (0, 0);
    let start = Instant::now();
    for site in ["", "user", "idle"] {
        lab.go(&[], Start::Site(site))?;
        for (part, nmis) in [Part::Second, Part::Third].into_iter().flat_map(|p| NMIS.map(|nmis| (p, nmis))) {
            Sweep::new(lab, RECHECK, &never).all(part, nmis, &mut |row, _, _| {
                cases += 1;
                let livelock = matches!(row.outcome.verdict, Verdict::Livelock { .. });
                false_livelocks += u64::from(livelock && row.expected.survives());
            })?;
        }
    }
    let sweeps_seconds = start.elapsed().as_secs_f64();
    lab.go(&[], Start::Site(""))?;
    let config = Config { fault: Some("auto".into()), max_states: MOST_STATES, cross_check: 20, ..Config::default() };
    let start = Instant::now();
    let report = explore(lab, &config, &never, &mut |_| {})?;
    let search_seconds = start.elapsed().as_secs_f64();
    Ok(Whole {
        cases,
        false_livelocks,
        sweeps_seconds,
        sweeps_kvm_runs: in_kvm_runs(sweeps_seconds),
        states: report.states,
        closed: report.is_closed(),
        search_seconds,
        search_kvm_runs: in_kvm_runs(search_seconds),
    })
}

fn median(mut each: impl FnMut() -> Result<Duration, LabError>) -> Result<u64, LabError> {
    let mut all = (0..ROUNDS).map(|_| each()).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    Ok(u64::try_from(all[ROUNDS / 2].as_nanos()).unwrap_or(u64::MAX))
}

impl std::fmt::Display for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "host    {}", self.host)?;
        writeln!(f, "kernel  {} ({})", self.kernel.version, self.kernel.image)?;
        writeln!(f, "help for this host: {}\n", self.assists)?;
        let one = self.kvm_run_ns.max(1) as f64;
        let mut line = |what: &str, ns: u64| {
            writeln!(f, "{what:44} {:9.1} us {:>10}", ns as f64 / 1e3, format!("({:.1})", ns as f64 / one))
        };
        line("one KVM_RUN to a HLT and back", self.kvm_run_ns)?;
        line(&format!("restore after a case ({} pages)", self.restore_pages), self.restore_ns)?;
        for (what, gears) in [
            ("one NMI", self.one_nmi),
            ("two NMIs, #2 latched", self.two_nmis_latched),
            ("two NMIs, #2 nested", self.two_nmis_nested),
        ] {
            line(&format!("case with {what}, by events"), gears.jump_ns)?;
            line(&format!("case with {what}, by KVM_NMI"), gears.arm_ns)?;
        }
        writeln!(
            f,
            "\nMedians of {ROUNDS}, in units of one KVM_RUN in brackets; one NMI's path has {} boundaries",
            self.boundaries
        )?;
        let Some(w) = &self.whole else { return Ok(()) };
        let mut line = |what: String, seconds: f64, runs: f64| {
            writeln!(f, "{what:64} {seconds:6.1} s {:>12}", format!("({runs:.0})"))
        };
        let livelocks = w.false_livelocks;
        line(
            format!("{} cases at three sites, {livelocks} false livelocks", w.cases),
            w.sweeps_seconds,
            w.sweeps_kvm_runs,
        )?;
        let closed = if w.closed { "passed and closed" } else { "NOT closed" };
        line(format!("the search with a fault, {} states, {closed}", w.states), w.search_seconds, w.search_kvm_runs)
    }
}
