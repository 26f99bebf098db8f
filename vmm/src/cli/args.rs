//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::output::OutputArgs;
use super::{agree, help, probe, values};
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
}

/// The image to test; options of the commands that read one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Guest")]
pub struct ImageArgs {
    /// Test this ELF image instead of the built-in micro-kernel (docs/guide/guest-abi.md)
    #[arg(long, value_name = "FILE")]
    pub guest: Option<PathBuf>,
    /// Link this object's `nmi_entry` into the image and test it (docs/guide/guest-abi.md)
    #[arg(long, value_name = "FILE.o")]
    pub entry: Option<PathBuf>,
}

/// The image, and how it is run; options of the commands that run one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Guest")]
pub struct GuestArgs {
    /// The image.
    #[command(flatten)]
    pub image: ImageArgs,
    /// What carries hypercalls in mode pv [default: xen where `vmm probe` says so, else port]
    #[arg(long, value_name = "HOW", value_parser = values::transport())]
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
    /// Tell in ten lines how the run of a replay line goes wrong
    #[command(after_help = help::EXPLAIN)]
    Explain(Explain),
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
    /// Show again what a result folder holds
    #[command(after_help = help::REPORT)]
    Report(Shown),
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
        /// The image.
        #[command(flatten)]
        image: ImageArgs,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What the guest does while NMIs arrive
    Scenarios {
        /// The image.
        #[command(flatten)]
        image: ImageArgs,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Every boundary that a run comes to: where an NMI can arrive
    #[command(after_help = help::BOUNDARIES)]
    #[command(override_usage = "vmm list boundaries --scheme <S> --scenario <C> [OPTIONS]\n       \
        vmm list boundaries --kernel <FILE> [OPTIONS]")]
    #[command(mut_arg("guest", |a| a.conflicts_with("kernel")), mut_arg("entry", |a| a.conflicts_with("kernel")))]
    #[command(mut_arg("scheme", |a| a.required(false).required_unless_present("kernel").conflicts_with("kernel")))]
    #[command(mut_arg("scenario", |a| a.required(false).required_unless_present("kernel").conflicts_with("kernel")))]
    Boundaries {
        /// Whose boundaries.
        #[command(flatten)]
        target: Option<TargetArgs>,
        /// The guest.
        #[command(flatten)]
        guest: GuestArgs,
        /// List the boundaries on the path of this schedule [default: the golden run, then
        /// what one NMI at its first boundary adds]
        #[arg(long, value_name = "SCHEDULE")]
        path: Option<String>,
        /// How to show it.
        #[command(flatten)]
        output: OutputArgs,
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
    #[arg(long, value_name = "MODE", value_parser = values::mode())]
    pub mode: Option<Mode>,
    /// Whether an IRET that faults unblocks NMIs all the same
    #[arg(long, value_name = "WHAT", default_value = "unblocks", value_parser = values::faulting_iret())]
    #[arg(action = clap::ArgAction::Set)] // a bool would be a switch
    pub faulting_iret: bool,
    /// Play a bug that a hypervisor's NMI logic had
    #[arg(long, value_name = "NAME", alias = "fault", value_parser = values::hv_bug())]
    pub hv_bug: Option<HvBug>,
}

impl TargetArgs {
    /// The knobs that the arguments set.
    pub fn knobs(&self, guest: &GuestArgs) -> Knobs {
        Knobs { faulting_iret_unblocks: self.faulting_iret, hv_bug: self.hv_bug, transport: guest.transport }
    }
}

/// `vmm run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What to run.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
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
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// How to run and show it.
    #[command(flatten)]
    pub how: How,
}

/// `vmm explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The line, as it was printed
    #[arg(value_name = "LINE", required = true)]
    pub line: Vec<String>,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
}

/// How one schedule is run and shown.
#[derive(Debug, Args)]
pub struct How {
    /// How the schedule is carried out [default: arm, or step with --trace]
    #[arg(long, value_name = "GEAR", value_parser = values::gears())]
    pub gear: Option<&'static [Gear]>,
    /// Show every instruction with what it changed, NMIs, nesting depth, blocked (B) and
    /// pending (P)
    #[arg(long)]
    pub trace: bool,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `vmm campaign`.
#[derive(Debug, Args)]
pub struct Campaign {
    /// The campaign (see scripts/campaigns/)
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Threads, each with machines of its own [default: one per CPU]
    #[arg(long, short, value_name = "N", value_parser = values::jobs())]
    pub jobs: Option<u16>,
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
    pub output: OutputArgs,
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
    /// What is there is enough: that units of work are missing is no failure
    #[arg(long)]
    pub partial: bool,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `vmm report`.
#[derive(Debug, Args)]
pub struct Shown {
    /// The result folder; nothing is written to it
    #[arg(value_name = "DIR", required = true)]
    pub dir: PathBuf,
    /// What is there is enough: that units of work are missing is no failure
    #[arg(long)]
    pub partial: bool,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}
