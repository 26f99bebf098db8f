//! `vmm linux explore`: every pattern of NMIs over a real kernel, to closure.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;

use super::kernel::KernelArgs;
use super::sweep::header;
use crate::cli::boot::{Booted, Plan};
use crate::cli::failure::{Ending, Failure};
use crate::cli::interrupt::on_interrupt;
use crate::cli::opened::Opened;
use crate::cli::out::Out;
use crate::cli::output::{OutputArgs, Outputs};
use crate::cli::progress::{UNKNOWN, bar};
use crate::cli::values;
use crate::inject::{At, Event, Gear, Kind as EventKind};
use crate::kernels::explore::{Config, explore};
use crate::kernels::{Document, FaultBy};
use crate::report::{Kind, LinuxSearch, LinuxViolation};

/// What `vmm linux explore --help` says below the options.
pub const HELP: &str = "\
From the first NMI's site, NMIs arrive at every boundary where they are not blocked, in every number
and nesting, until no new state of the machine appears. \"pass, closed\" then says that the kernel
survives all of them from this site. docs/guide/linux.md tells what that rests on.

Examples:
  vmm linux explore --kernel vmlinux
  vmm linux explore --kernel vmlinux --fault-in-handler auto
  vmm linux explore --kernel vmlinux --fault-in-handler auto --fault-by breakpoint
  vmm linux explore --kernel vmlinux --site user --unmask
  vmm linux explore --kernel vmlinux --unmask --mutate 'nmi_restore+0x1b=90'

Exits 0 for \"pass, closed\", 1 for a violation or a search that is not closed, 75 when interrupted.";

/// `vmm linux explore`.
#[derive(Debug, Args)]
pub struct Explore {
    /// Where NMIs interrupt: a place in the kernel, `user` or `idle` [default: the function of getppid]
    #[arg(long, value_name = "PLACE", default_value = "", hide_default_value = true)]
    pub site: String,
    /// The handler may take a fault there, each time that it comes to it; auto: at the first
    /// boundary where it may at all
    #[arg(long, value_name = "PLACE")]
    pub fault_in_handler: Option<String>,
    /// What that fault is
    #[arg(long, value_name = "KIND", default_value = "spurious", value_parser = values::fault_by(), requires = "fault_in_handler")]
    pub fault_by: FaultBy,
    /// Something else (an SMI, a machine check) may unblock NMIs, wherever a kernel can survive that
    #[arg(long)]
    pub unmask: bool,
    /// Give up beyond so many states
    #[arg(long, value_name = "N", default_value = "2000000")]
    pub max_states: usize,
    /// Explored paths to run again as cases, as a check
    #[arg(long, value_name = "N", default_value = "20")]
    pub cross_check: usize,
    /// Check: arrivals at boundaries where NMIs are blocked, too
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub all_arrivals: bool,
    /// Check: tell states apart by the words of a frame that nothing reads any more, too
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub dead_words: bool,
    /// Check: every boundary is a state
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub stepped: bool,
    /// Check: search nested NMIs from every context, too, that they cannot tell apart
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub every_episode: bool,
    /// CPU time that one case may take before it is a livelock
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..))]
    pub case_limit: u64,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The kernel.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// Carries out the command.
pub fn run(args: &Explore, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    args.kernel.named()?;
    let stop = on_interrupt();
    let plan = Plan {
        sites: vec![args.site.clone()],
        mutations: vec![args.kernel.mutate.clone()],
        faults: args.fault_in_handler.iter().cloned().collect(),
        ..Plan::default()
    };
    let mut booted = args.kernel.boot(&plan, opened, &stop)?;
    let lab = &mut booted.lab;
    lab.set_limit(Duration::from_millis(args.case_limit));
    lab.set_fault_by(args.fault_by);
    lab.go(&args.kernel.mutate, crate::kernels::Start::Site(&args.site))?;
    let config = Config {
        fault: args.fault_in_handler.clone(),
        unmask: args.unmask,
        all_arrivals: args.all_arrivals,
        dead_words: args.dead_words,
        stepped: args.stepped,
        every_episode: args.every_episode,
        max_states: args.max_states,
        cross_check: args.cross_check,
    };
    let replay = |schedule: &str| args.kernel.replay(args.fault_by, Gear::Jump, args.case_limit, schedule);
    search(booted, &config, &replay, &outputs, &stop, out)
}

/// Searches from where a kernel stands, and says what came of it.
pub fn search(
    booted: Booted,
    config: &Config,
    replay: &dyn Fn(&str) -> String,
    outputs: &Outputs,
    stop: &AtomicBool,
    out: &mut Out,
) -> Result<Ending, Failure> {
    let Booted { mut lab, info, .. } = booted;
    let lab = &mut lab;
    let bar = bar(UNKNOWN);
    let began = Instant::now();
    let report = explore(lab, config, stop, &mut |p| {
        let rate = p.states as f64 / began.elapsed().as_secs_f64().max(0.001);
        bar.set_message(format!("{} states, {rate:.0}/s · {} not expanded", p.states, p.frontier));
    })?;
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let place = |at: At| {
        let shown = lab.show_schedule(&[Event { kind: EventKind::Nmi, at }]);
        shown.trim_start_matches("nmi@").to_owned()
    };
    let violation = report.violation.as_ref().map(|found| {
        let schedule = lab.show_schedule(&found.schedule);
        let replay = replay(&schedule);
        LinuxViolation::new(&found.verdict, schedule, replay)
    });
    let document = Document::new(info, lab);
    let events = ["nmi", "unmask", "fault"].into_iter();
    let with = [true, config.unmask, report.fault.is_some()];
    let search = LinuxSearch {
        header: header(&document),
        host: document.host,
        kernel: document.kernel,
        assists: document.assists,
        unchecked: document.unchecked,
        site: lab.show(lab.start().addr),
        mutate: lab.mutations().to_vec(),
        events: events.zip(with).filter_map(|(word, with)| with.then_some(word)).collect(),
        fault: report.fault.map(place),
        fault_by: lab.fault_by(),
        verdict: match (&report.violation, &report.open) {
            (Some(found), _) => found.verdict.word(),
            (None, Some(_)) => "open",
            (None, None) => "pass",
        },
        closed: report.is_closed(),
        bound: report.open.clone(),
        states: report.states,
        edges: report.edges,
        merged: report.merged,
        frontier: report.frontier,
        arrivals: report.arrivals,
        returns: report.returns,
        boundaries: report.boundaries,
        left_out: report.left_out,
        counters: report.counters.iter().map(|at| lab.name_of(*at)).collect(),
        cross_checked: report.cross_checked,
        contexts: report.episodes.map(|(all, _)| all),
        episodes: report.episodes.map(|(_, searched)| searched),
        seconds,
        violation,
    };
    outputs.write(&search, out)?;
    Ok(match () {
        () if stop.load(std::sync::atomic::Ordering::Relaxed) => Ending::Interrupted,
        () if report.is_closed() => Ending::Expected,
        () => Ending::Unexpected,
    })
}
