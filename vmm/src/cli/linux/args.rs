//! The arguments of `vmm linux`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::cache;
use super::explore::Explore;
use super::kernel::KernelArgs;
use super::necessity::Necessity;
use crate::cli::args::UnitArgs;
use crate::cli::boot::read;
use crate::cli::failure::Failure;
use crate::cli::output::OutputArgs;
use crate::cli::values;
use crate::inject::Gear;
use crate::kernels::{Baseline, FaultBy, Part};

/// What `vmm linux --help` says below the options.
pub const HELP: &str = "\
The kernel boots in a PC of the lab's own (one CPU, serial line, timer) and runs a user program
of the lab's, which computes a checksum for ever. What came up is kept in ~/.cache/nmi-lab/machines
and is started from the next time (--no-cache, `vmm linux cache`), or in a file (--save, --from).

At the first NMI's site everything is frozen; every case starts there. It passes when the
interrupted context is what it was (every register, MSR, debug and vector register), no memory
changed but what the kernel as it came up writes for NMIs, every NMI was handled after it came, the
kernel's preempt count and taint are what they were, it says nothing, and the user program goes on.

A site is a place in the kernel (`__do_sys_getppid`, `do_syscall_64+0x10`), `user` (amid the
checksum, at CPL 3), `user-ldt` (there on a stack segment of the LDT), `user-rsp` (SYSCALL's entry
with RSP in the NMI stack), `user-bp` and `user-db` (the first instruction of #BP's and #DB's handler,
with DF set as in user code) or `idle`. A schedule begins with the NMI at its site; before one that
begins amid the NMI's own code, an NMI at the default site is understood. `nmi` and `unmask` are as in
the lab; `fault` makes the instruction at its place raise a page fault, which the kernel's handler
takes and resolves, and whose iretq unblocks NMIs.

Examples:
  scripts/linux/build-test-kernel
  vmm list boundaries --kernel vmlinux
  vmm linux --kernel vmlinux --sweep --site user
  vmm linux --kernel vmlinuz --schedule 'nmi@asm_exc_nmi+0x4 unmask@end_repeat_nmi nmi@end_repeat_nmi'
  vmm linux --kernel vmlinux --sweep --part second,third,fault --fault-in-handler auto
  vmm linux --kernel vmlinux --sweep --mutate 'nmi_restore+0x1b=90'
  vmm linux explore --kernel vmlinux --fault-in-handler auto
  vmm linux necessity --kernel vmlinux
  vmm linux --campaign scripts/campaigns/linux-test-kernel.toml
  vmm bench --linux

Ctrl-C stops a sweep at the next case and reports what was found (exit 75); with --out DIR the same
command line goes on from there later. `vmm merge` puts folders of shards together, `vmm report` shows
one. A failing case prints the command line that runs it again. Exits 0 where every verdict is as expected, 1
where not (a defect of the entry code, or a boundary that nothing could be said about), 65
for a bad kernel or one that does not come up, 69 for a host that cannot run it.
docs/guide/linux.md tells what is expected where, and why; docs/guide/json.md describes the JSON.";

/// `vmm linux`.
#[derive(Debug, Args)]
#[command(mut_arg("kernel", |a| a.required_unless_present_any(["campaign", "from"])))]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Linux {
    /// Or: something else.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to do.
    #[command(flatten)]
    pub what: What,
    /// Where the first NMI arrives; may be repeated [default: the function of getppid]
    #[arg(long, value_name = "PLACE", requires = "sweep")]
    pub site: Vec<String>,
    /// Which NMI of a sweep goes from boundary to boundary
    #[arg(long, value_name = "PART", value_delimiter = ',', default_value = "second,third", value_parser = values::part())]
    pub part: Vec<Part>,
    /// Where #1's handler takes a page fault in each case of a sweep; auto: at the first boundary
    /// where it may
    #[arg(long, value_name = "PLACE", requires = "sweep")]
    pub fault_in_handler: Option<String>,
    /// What `fault` in schedules and sweeps makes the handler take
    #[arg(long, value_name = "KIND", default_value = "spurious", value_parser = values::fault_by())]
    pub fault_by: FaultBy,
    /// Earlier results (--json) that known defects are taken from: only new ones fail
    #[arg(long, value_name = "FILE", requires = "sweep")]
    pub baseline: Option<PathBuf>,
    /// How a schedule is carried out
    #[arg(long, value_name = "GEAR", default_value = "arm", value_parser = values::one_gear())]
    pub gear: Gear,
    /// Run the schedule so many times, and compare what came of it, with all of RAM and every register
    #[arg(long, value_name = "N", conflicts_with_all = ["sweep", "campaign"], value_parser = clap::value_parser!(u32).range(2..))]
    pub repeat: Option<u32>,
    /// CPU time that one case may take before it is a livelock
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..))]
    pub case_limit: u64,
    /// How the units of sweeps are run.
    #[command(flatten)]
    pub units: UnitArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The kernel.
    #[command(flatten)]
    pub kernel: KernelArgs,
}

/// What else can be done with kernels.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The machines that have come up once, and are kept to start from
    Cache {
        #[command(subcommand)]
        what: cache::What,
    },
    /// Search every number, timing and nesting of NMIs from a site, until nothing new appears
    #[command(after_help = super::explore::HELP)]
    Explore(Box<Explore>),
    /// Remove each instruction of the NMI's entry code, and say what breaks without it
    #[command(after_help = super::necessity::HELP)]
    Necessity(Box<Necessity>),
}

/// What to do with the kernel.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// Run one schedule and judge it
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// A further NMI at every boundary of an NMI's path, NMIs blocked and unblocked
    #[arg(long)]
    pub sweep: bool,
    /// Run what a campaign file says
    #[arg(long, value_name = "FILE")]
    pub campaign: Option<PathBuf>,
}

impl Linux {
    /// The results that `--baseline` names, with the file's name.
    pub fn baseline(&self) -> Result<Option<(String, Baseline)>, Failure> {
        let Some(file) = &self.baseline else { return Ok(None) };
        let name = file.display().to_string();
        let baseline = Baseline::parse(&read(file)?).map_err(|why| Failure::Input { name: name.clone(), why })?;
        Ok(Some((name, baseline)))
    }
}
