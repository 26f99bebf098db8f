//! The command line as a whole: every command with its arguments.

use clap::{Args, Parser, Subcommand};

use super::{
    agree, bench, campaign, compare, debug, doctor, explain, explore, help, init, kernel, linux, list, necessity,
    probe, run, shell, xen,
};

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
    /// Do without the sandbox, on a kernel that has no Landlock or seccomp
    #[arg(long, global = true, help_heading = "Common options")]
    pub no_sandbox: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what there is: schemes, scenarios, or the boundaries of a run
    #[command(subcommand, after_help = help::LIST)]
    List(list::List),
    /// Run one schedule and judge it
    #[command(after_help = help::RUN)]
    Run(run::Run),
    /// Run again what a failure printed
    #[command(after_help = help::REPLAY)]
    Replay(run::Replay),
    /// Tell in ten lines how the run of a replay line goes wrong
    #[command(after_help = help::EXPLAIN)]
    Explain(explain::Explain),
    /// Show one run to gdb, forwards and backwards
    #[command(after_help = help::DEBUG)]
    Debug(debug::Debug),
    /// Run every case of a campaign file and compare with what it expects
    #[command(after_help = help::CAMPAIGN)]
    Campaign(campaign::Campaign),
    /// Measure what cases, steps and searches cost on this host
    Bench(bench::Bench),
    /// Search every pattern of NMIs, of any number and nesting, until nothing new appears
    #[command(after_help = help::EXPLORE)]
    Explore(explore::Explore),
    /// Change each instruction of an entry path, and say what breaks without it
    #[command(after_help = necessity::HELP)]
    Necessity(necessity::Args),
    /// Put schemes side by side: what an NMI costs, and whether it survives
    #[command(after_help = compare::HELP)]
    Compare(compare::Compare),
    /// Put result folders of a campaign's shards together
    #[command(after_help = help::MERGE)]
    Merge(campaign::Merge),
    /// Show again what a result folder holds
    #[command(after_help = help::REPORT)]
    Report(campaign::Shown),
    /// Measure what this host's KVM does with NMIs
    #[command(after_help = probe::HELP)]
    Probe(probe::Args),
    /// Compare the results of several hosts
    #[command(after_help = agree::HELP)]
    Agree(agree::Args),
    /// Inject NMIs into a real Linux kernel
    #[command(after_help = linux::HELP)]
    Linux(Box<linux::Linux>),
    /// Inject NMIs into any kernel that boots by multiboot
    #[command(after_help = kernel::HELP)]
    Kernel(Box<kernel::Kernel>),
    /// Inject NMIs into the real Xen, with a paravirtual guest on it
    #[command(after_help = xen::HELP)]
    Xen(Box<xen::XenArgs>),
    /// Say what this machine can and cannot do for the lab, and how to cure it
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Doctor),
    /// Make a folder with a starting point for your own entry code or kernel
    #[command(after_help = init::HELP)]
    Init(init::Init),
    /// Print completions for a shell
    #[command(after_help = shell::COMPLETIONS)]
    Completions(shell::Completions),
    /// Write manual pages
    #[command(after_help = shell::MAN)]
    Man(shell::Man),
}
