//! What things cost on this host, measured in one run: ratios hold where the machine's
//! speed drifts, single figures do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;

use crate::explore::{self, Config, Reductions, explore};
use crate::host_id::HostId;
use crate::image::Guest;
use crate::image::declare::{Scenario, Scheme};
use crate::inject::{At, Event, Gear, Kind, RunError, Schedule, Session, run};
use crate::kvm::{self, Exit, Host, Vm};
use crate::machine::{self, Knobs};

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A case could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A search could not be made.
    #[error(transparent)]
    Explore(#[from] explore::Error),
}

impl From<kvm::Error> for Error {
    fn from(e: kvm::Error) -> Self {
        machine::Error::from(e).into()
    }
}

impl From<machine::Error> for Error {
    fn from(e: machine::Error) -> Self {
        RunError::from(e).into()
    }
}

/// The measurements. Times are medians in nanoseconds unless said.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// Where they were made.
    pub host: HostId,
    /// What was run.
    pub scheme: String,
    /// What was run.
    pub scenario: String,
    /// One KVM_RUN to a HLT and back, registers in and out by sync regs.
    pub kvm_run_ns: u64,
    /// What the sandbox adds to each call to KVM; `None` where there is none.
    pub sandbox_ns: Option<u64>,
    /// One instruction by patched successors.
    pub single_step_ns: u64,
    /// A whole case, its NMI in the middle of the work, from *ready*: armed.
    pub arm_ns: u64,
    /// The same case, stepped.
    pub step_ns: u64,
    /// The same case, from a checkpoint at the boundary.
    pub jump_ns: u64,
    /// Copying the whole state out.
    pub checkpoint_ns: u64,
    /// Copying it in.
    pub restore_ns: u64,
    /// Hashing everything a run's future depends on.
    pub hash_ns: u64,
    /// The fully stepped search: mean time of an edge, of the CPU's time and not the
    /// clock's, so that what else runs on the machine counts less. What comes before the
    /// first edge (booting, the golden run) is left out.
    pub explore_stepped_ns_per_edge: u64,
    /// How much of it was spent in the kernel, which is in KVM_RUN.
    pub explore_stepped_kernel_ns_per_edge: u64,
    /// The search as it is made by default: the same.
    pub explore_ns_per_edge: u64,
    /// States a second of the default search, by jobs.
    pub states_per_second: BTreeMap<String, u64>,
    /// States a second of the fully stepped search, by jobs.
    pub stepped_states_per_second: BTreeMap<String, u64>,
    /// Bytes for a visited state, the frontier apart.
    pub bytes_per_state: f64,
    /// `explore_stepped_ns_per_edge / kvm_run_ns`.
    pub stepped_edge_per_kvm_run: f64,
}

/// Measures. `tell` is called with what is measured next.
pub fn bench(
    host: &Host,
    guest: &Arc<Guest>,
    (scheme, scenario): (&Scheme, &Scenario),
    knobs: Knobs,
    sandbox_ns: Option<u64>,
    tell: &mut dyn FnMut(&str),
) -> Result<Bench, Error> {
    tell("KVM_RUN");
    let kvm_run_ns = kvm_run(host)?;
    tell("cases");
    let mut session = Session::new(host, guest, scheme, scenario, knobs)?;
    let visit = session.rules().golden.visits[session.rules().golden.visits.len() / 2];
    let case = Schedule(vec![Event { kind: Kind::Nmi, at: At { addr: visit.addr, n: visit.n } }]);
    let mut gear = |gear| -> Result<u64, Error> {
        let mut times = Vec::new();
        for _ in 0..101 {
            let begin = Instant::now();
            run(&mut session, &case, gear, &mut ())?;
            times.push(nanos(begin.elapsed()));
        }
        Ok(median(times))
    };
    let (arm_ns, step_ns, jump_ns) = (gear(Gear::Arm)?, gear(Gear::Step)?, gear(Gear::Jump)?);
    session.reset();
    let mut steps = Vec::new();
    for _ in 0..session.rules().golden.visits.len() / 2 {
        let begin = Instant::now();
        session.advance(crate::inject::Advance::Step)?;
        steps.push(nanos(begin.elapsed()));
    }
    let mut saved = session.saved();
    let checkpoint_ns = per_call(&mut || session.save(&mut saved));
    let restore_ns = per_call(&mut || session.restore(&saved));
    let hash_ns = per_call(&mut || {
        std::hint::black_box(session.state_hash());
    });

    let stepped = Reductions { collapse: false, merge_dead: false, ..Reductions::default() };
    let mut search = |reductions: Reductions, jobs: usize, max_states: usize| -> Result<Searched, Error> {
        tell(&format!("search with {jobs} job(s)"));
        let config = Config { reductions, jobs, max_states, cross_check: 0, keep_going: true, ..Config::default() };
        let (begin, before) = (Instant::now(), CpuTime::now());
        let report = explore(host, guest, (scheme, scenario), knobs, config, &AtomicBool::new(false), &mut |_| {})?;
        Ok(Searched { seconds: begin.elapsed().as_secs_f64(), cpu: CpuTime::now().less(before), report })
    };
    let plain = Reductions { merge_dead: false, ..Reductions::default() };
    let rate = |s: &Searched| (s.report.states as f64 / s.seconds) as u64;
    let setup = search(stepped, 1, 0)?.cpu;
    let edge = |s: &Searched| s.cpu.less(setup).per(s.report.edges);
    let (s1, s2) = (search(stepped, 1, 40_000)?, search(stepped, 2, 40_000)?);
    let (c1, c2) = (search(plain, 1, 20_000)?, search(plain, 2, 20_000)?);
    let by_jobs = |one: u64, two: u64| BTreeMap::from([("1".to_owned(), one), ("2".to_owned(), two)]);
    let stepped_edge = edge(&s1);
    Ok(Bench {
        host: host.id().clone(),
        scheme: scheme.name.clone(),
        scenario: scenario.name.clone(),
        kvm_run_ns,
        sandbox_ns,
        single_step_ns: median(steps),
        arm_ns,
        step_ns,
        jump_ns,
        checkpoint_ns,
        restore_ns,
        hash_ns,
        explore_stepped_ns_per_edge: nanos(stepped_edge.all()),
        explore_stepped_kernel_ns_per_edge: nanos(stepped_edge.system),
        explore_ns_per_edge: nanos(edge(&c1).all()),
        states_per_second: by_jobs(rate(&c1), rate(&c2)),
        stepped_states_per_second: by_jobs(rate(&s1), rate(&s2)),
        bytes_per_state: s1.report.visited_bytes as f64 / s1.report.states.max(1) as f64,
        stepped_edge_per_kvm_run: nanos(stepped_edge.all()) as f64 / kvm_run_ns.max(1) as f64,
    })
}

/// A search and what it took.
struct Searched {
    seconds: f64,
    cpu: CpuTime,
    report: explore::Report,
}

/// CPU time of this process: all zero where the kernel does not tell.
#[derive(Clone, Copy, Default)]
struct CpuTime {
    user: Duration,
    system: Duration,
}

impl CpuTime {
    fn now() -> Self {
        let micros = |t: TimeVal| Duration::from_micros(u64::try_from(t.num_microseconds()).unwrap_or(0));
        getrusage(UsageWho::RUSAGE_SELF)
            .map_or(Self::default(), |used| Self { user: micros(used.user_time()), system: micros(used.system_time()) })
    }

    fn less(self, before: Self) -> Self {
        let Self { user, system } = self;
        Self { user: user.saturating_sub(before.user), system: system.saturating_sub(before.system) }
    }

    fn per(self, edges: u64) -> Self {
        let edges = edges.max(1) as f64;
        Self { user: self.user.div_f64(edges), system: self.system.div_f64(edges) }
    }

    fn all(self) -> Duration {
        self.user + self.system
    }
}

/// What one KVM_RUN costs, to a HLT in real mode and back, in nanoseconds: the median of many.
pub fn kvm_run(host: &Host) -> Result<u64, Error> {
    const AT: u64 = 0x1000;
    let mut vm = Vm::new(host, 1 << 20)?;
    vm.ram_mut()[AT as usize] = 0xf4;
    (vm.state_mut().sregs.cs.base, vm.state_mut().sregs.cs.selector) = (0, 0);
    let mut times = Vec::new();
    for _ in 0..2001 {
        vm.state_mut().regs.rip = AT;
        let begin = Instant::now();
        let exit = vm.run()?;
        times.push(nanos(begin.elapsed()));
        if exit != Exit::Hlt {
            return Err(machine::Error::Host(format!("a HLT in real mode ended in {exit:?}")).into());
        }
    }
    Ok(median(times))
}

fn per_call(call: &mut dyn FnMut()) -> u64 {
    let times = (0..101).map(|_| {
        let begin = Instant::now();
        for _ in 0..20 {
            call();
        }
        nanos(begin.elapsed()) / 20
    });
    median(times.collect())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

impl std::fmt::Display for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "host  {}\n{} / {}; medians, in units of one KVM_RUN in brackets\n",
            self.host, self.scheme, self.scenario
        )?;
        let mut row = |name: &str, ns: u64| {
            let ratio = ns as f64 / self.kvm_run_ns.max(1) as f64;
            writeln!(f, "{name:<38} {:>9.2} µs  [{ratio:.2}]", ns as f64 / 1000.0)
        };
        row("one KVM_RUN to a HLT and back", self.kvm_run_ns)?;
        if let Some(ns) = self.sandbox_ns {
            row("  of it the sandbox", ns)?;
        }
        row("one instruction, stepped", self.single_step_ns)?;
        row("a case, armed", self.arm_ns)?;
        row("a case, stepped", self.step_ns)?;
        row("a case, from a checkpoint", self.jump_ns)?;
        row("checkpoint", self.checkpoint_ns)?;
        row("restore", self.restore_ns)?;
        row("hash of a state", self.hash_ns)?;
        row("explorer: an edge, stepped", self.explore_stepped_ns_per_edge)?;
        row("  of it in the kernel", self.explore_stepped_kernel_ns_per_edge)?;
        row("explorer: an edge, chains run freely", self.explore_ns_per_edge)?;
        let rates = |r: &BTreeMap<String, u64>| {
            let parts: Vec<_> = r.iter().map(|(jobs, n)| format!("{n} with {jobs}")).collect();
            parts.join(", ")
        };
        writeln!(
            f,
            "states a second, by jobs: stepped {}; chains run freely {}",
            rates(&self.stepped_states_per_second),
            rates(&self.states_per_second)
        )?;
        writeln!(f, "a visited state takes {:.1} bytes", self.bytes_per_state)
    }
}
