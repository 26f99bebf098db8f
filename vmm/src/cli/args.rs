//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{agree, help, named, probe};
use crate::image::Mode;
use crate::inject::Gear;
use crate::machine::hv_bug::HvBug;
use crate::machine::{Knobs, Transport};

/// A laboratory for x86-64 NMI entry code, on KVM
///
/// Runs a small kernel in a virtual machine, lets NMIs arrive at chosen instruction
/// boundaries, and judges from outside whether the kernel's NMI entry code survived.
#[derive(Debug, Parser)]
#[command(
    name = "vmm",
    bin_name = "vmm",
    version,
    after_help = help::SHORT,
    after_long_help = help::LONG,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true
)]
pub struct Cli {
    /// What is the same for every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Say more on stderr: -v, -vv, -vvv
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Common options")]
    pub verbose: u8,
    /// Test this ELF image instead of the built-in micro-kernel (docs/guest-abi.md)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub guest: Option<PathBuf>,
    /// Link this object's `nmi_entry` into the image and test it (docs/guest-abi.md)
    #[arg(long, global = true, value_name = "FILE.o", help_heading = "Common options")]
    pub entry: Option<PathBuf>,
    /// What carries hypercalls in mode pv [default: xen where `vmm probe` says so, else port]
    #[arg(long, global = true, value_name = "HOW", help_heading = "Common options")]
    pub transport: Option<Transport>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what there is: schemes, scenarios, or the boundaries of a run
    #[command(subcommand, after_help = help::LIST)]
    List(List),
    /// Run one schedule and judge it
    #[command(after_help = help::RUN)]
    Run(Run),
    /// Run again what a failure printed
    #[command(after_help = help::REPLAY)]
    Replay(Replay),
    /// Run every case of a campaign file and compare with what it expects
    #[command(after_help = help::CAMPAIGN)]
    Campaign(Campaign),
    /// Measure what cases, steps and searches cost on this host
    Bench(super::bench::Bench),
    /// Search every pattern of NMIs, of any number and nesting, until nothing new appears
    #[command(after_help = help::EXPLORE)]
    Explore(super::explore::Explore),
    /// Put schemes side by side: what an NMI costs, and whether it survives
    #[command(after_help = super::compare::HELP)]
    Compare(super::compare::Compare),
    /// Put result folders of a campaign's shards together
    #[command(after_help = help::MERGE)]
    Merge(Merge),
    /// Measure what this host's KVM does with NMIs
    #[command(after_help = probe::HELP)]
    Probe(probe::Args),
    /// Compare the results of several hosts
    #[command(after_help = agree::HELP)]
    Agree(agree::Args),
    /// Inject NMIs into a real Linux kernel
    #[command(after_help = super::linux::HELP)]
    Linux(Box<super::linux::Linux>),
}

/// What `list` lists.
#[derive(Debug, Subcommand)]
pub enum List {
    /// Ways to enter and leave an NMI
    Schemes {
        /// Those that test the oracle or show bugs of history, too
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What the guest does while NMIs arrive
    Scenarios {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Every boundary that a run comes to: where an NMI can arrive
    #[command(after_help = help::BOUNDARIES)]
    #[command(override_usage = "vmm list boundaries --scheme <S> --scenario <C> [OPTIONS]\n       \
        vmm list boundaries --kernel <FILE> [OPTIONS]")]
    #[command(mut_arg("scheme", |a| a.required(false).required_unless_present("kernel").conflicts_with("kernel")))]
    #[command(mut_arg("scenario", |a| a.required(false).required_unless_present("kernel").conflicts_with("kernel")))]
    Boundaries {
        /// Whose boundaries.
        #[command(flatten)]
        target: Option<TargetArgs>,
        /// List the boundaries on the path of this schedule [default: the golden run, then
        /// what one NMI at its first boundary adds]
        #[arg(long, value_name = "SCHEDULE")]
        path: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Or those of a real kernel.
        #[command(flatten)]
        kernel: Box<super::linux::KernelArgs>,
    },
}

/// What to run.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The scheme (see `vmm list schemes`)
    #[arg(long, value_name = "S")]
    pub scheme: String,
    /// The scenario (see `vmm list scenarios`)
    #[arg(long, value_name = "C")]
    pub scenario: String,
    /// Insist on a mode; each scheme has one
    #[arg(long, value_name = "MODE")]
    pub mode: Option<Mode>,
    /// Whether an IRET that faults unblocks NMIs all the same
    #[arg(long, value_name = "WHAT", default_value = "unblocks")]
    pub faulting_iret: FaultingIret,
    /// Play a bug that a hypervisor's NMI logic had
    #[arg(long, value_name = "NAME", alias = "fault", value_parser = named::hv_bug())]
    pub hv_bug: Option<HvBug>,
}

/// The model's choice for an IRET that faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FaultingIret {
    /// It unblocks NMIs (Intel's manual).
    Unblocks,
    /// It leaves them blocked.
    Keeps,
}

impl TargetArgs {
    /// The knobs that the arguments set.
    pub fn knobs(&self) -> Knobs {
        Knobs { faulting_iret_unblocks: self.faulting_iret == FaultingIret::Unblocks, hv_bug: self.hv_bug }
    }
}

/// `vmm run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What to run.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What arrives where, as in 'nmi@exit_iret#1 nmi@body+0x4#2' [default: nothing]
    #[arg(long, value_name = "SCHEDULE", default_value = "", hide_default_value = true)]
    pub schedule: String,
    /// How to run and show it.
    #[command(flatten)]
    pub how: How,
}

/// `vmm replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The line, as it was printed
    #[arg(value_name = "LINE", required = true)]
    pub line: Vec<String>,
    /// How to run and show it.
    #[command(flatten)]
    pub how: How,
}

/// How one schedule is run and shown.
#[derive(Debug, Args)]
pub struct How {
    /// How the schedule is carried out [default: arm, or step with --trace]
    #[arg(long, value_name = "GEAR", value_parser = named::gear())]
    pub gear: Option<GearArg>,
    /// Show every instruction with what it changed, NMIs, nesting depth, blocked (B) and
    /// pending (P)
    #[arg(long)]
    pub trace: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A gear, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GearArg {
    /// This one.
    One(Gear),
    /// Each in turn, to compare them.
    All,
}

impl GearArg {
    /// The gears it stands for.
    pub fn gears(self) -> Vec<Gear> {
        match self {
            GearArg::One(gear) => vec![gear],
            GearArg::All => Gear::ALL.to_vec(),
        }
    }
}

impl std::fmt::Display for GearArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GearArg::One(gear) => gear.fmt(f),
            GearArg::All => f.pad("all"),
        }
    }
}

/// `vmm campaign`.
#[derive(Debug, Args)]
pub struct Campaign {
    /// The campaign (see scripts/campaigns/)
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// Threads, each with machines of its own [default: one per CPU]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<std::num::NonZeroUsize>,
    /// Keep results in this folder, and resume from what is there
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Throw away what --out holds of another campaign, image or host
    #[arg(long, requires = "out")]
    pub fresh: bool,
    /// Run only every N-th unit, beginning with number I (from 0)
    #[arg(long, value_name = "I/N")]
    pub shard: Option<crate::campaign::Shard>,
    /// How to show it.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Say how long each scheme and scenario took
    #[arg(long)]
    pub timings: bool,
}

/// `vmm merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Result folders, in any order
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Write the whole as one result folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// How results are shown.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit report, too
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}
