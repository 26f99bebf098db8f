//! `vmm linux necessity`: which instruction of a kernel's NMI entry code is needed, and for what.

use std::sync::atomic::AtomicBool;

use clap::Args;

use super::kernel::KernelArgs;
use crate::cli::args::UnitArgs;
use crate::cli::boot::{Booted, Plan};
use crate::cli::failure::{Ending, Failure};
use crate::cli::interrupt::on_interrupt;
use crate::cli::necessity::{Begun, ending};
use crate::cli::opened::Opened;
use crate::cli::out::{Out, say};
use crate::cli::output::{OutputArgs, Outputs};
use crate::cli::progress::{Bar, UNKNOWN, bar};
use crate::cli::values;
use crate::kernels::{Lab, Part};
use crate::necessity::kernel::{Question, necessity};
use crate::report::Kind;

/// What `vmm linux necessity --help` ends with.
pub const HELP: &str = "\
Each instruction of the NMI's entry code, as it is in live memory, is replaced by NOPs in turn. Then
every case that the kernel as it is must pass, and does, is run again, until one fails: one NMI, a
second and a third at each boundary, blocked and unblocked, and a fault in the handler. The answer
is a listing in which each instruction stands with the rule that breaks without it, the site and the
schedule. An instruction without which nothing breaks is superfluous, or the sites have a hole there.

Examples:
  vmm linux necessity --kernel vmlinux
  vmm linux necessity --kernel vmlinuz --site user --part second --html necessity.html
  vmm linux necessity --kernel vmlinux --out necessity --shard 0/4

Exits 0 where every change was tried to its end, whatever was found, and 1 where for some it is not
known whether they are needed.";

/// `vmm linux necessity`.
#[derive(Debug, Args)]
pub struct Necessity {
    /// Where NMI #1 arrives; may be repeated. Empty: the function of getppid [default: that, user,
    /// idle, and entry_SYSCALL_64, where GS is the user's]
    #[arg(long, value_name = "PLACE")]
    pub site: Vec<String>,
    /// What comes after it
    #[arg(long, value_name = "PART", value_delimiter = ',', default_value = "second,fault,third", value_parser = values::part())]
    pub part: Vec<Part>,
    /// Go on at the other sites where one shows a defect
    #[arg(long)]
    pub every_site: bool,
    /// CPU time that one case may take before it is a livelock
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..))]
    pub case_limit: u64,
    /// How its units are run: each change is one.
    #[command(flatten)]
    pub units: UnitArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The kernel.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// The sites that are asked where none is named.
const SITES: [&str; 4] = ["", "user", "idle", "entry_SYSCALL_64"];

/// Carries out the command.
pub fn run(args: &Necessity, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    args.kernel.named()?;
    let stop = on_interrupt();
    let sites = if args.site.is_empty() { SITES.map(str::to_owned).to_vec() } else { args.site.clone() };
    let plan = Plan { sites: sites.clone(), mutations: vec![args.kernel.mutate.clone()], ..Plan::default() };
    let booted = args.kernel.boot(&plan, opened, &stop)?;
    let question = Question {
        mutate: &args.kernel.mutate,
        sites: &sites,
        parts: &args.part,
        every_site: args.every_site,
        command: &args.kernel.command(),
        case_limit: args.case_limit,
    };
    ask(booted, &question, &args.units, &outputs, &stop, out)
}

/// Asks a kernel that has come up, whichever it is.
pub fn ask(
    booted: Booted,
    question: &Question<'_>,
    units: &UnitArgs,
    outputs: &Outputs,
    stop: &AtomicBool,
    out: &mut Out,
) -> Result<Ending, Failure> {
    let Booted { lab, info, host } = booted;
    let (seed, kernel) = (lab.seed(&host)?, lab.kernel().twin());
    let open = || Lab::twin(&host, kernel.twin(), &seed);
    let bar = bar(UNKNOWN);
    let on_site = &mut |site: &str| bar.set_message(format!("{site}, as it is"));
    let mut watcher = Begun { searching: &bar, then: Bar::new() };
    let found = necessity(lab, (question, &info), &open, &units.options(stop), on_site, &mut watcher);
    bar.finish_and_clear();
    let (found, finished) = found?;
    outputs.write(&found, out)?;
    if !finished {
        say(units.interrupted());
        return Ok(Ending::Interrupted);
    }
    Ok(ending(&found))
}
