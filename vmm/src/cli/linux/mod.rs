//! `vmm linux`: NMIs into a real Linux kernel.

mod boundaries;
mod campaign;
mod kernel;
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::out::{Out, say};
use super::output::OutputArgs;
use super::values;
use crate::inject::Gear;
use crate::kernels::{CaseRow, Document, Lab, Part, Which};
use crate::report::{Kind, LinuxCase};
pub use boundaries::boundaries;
pub use kernel::KernelArgs;
use sweep::{How, Said, ending};

pub const HELP: &str = "\
The kernel boots in a PC of the lab's own (one CPU, serial line, timer) and runs a user program
of the lab's, which computes a checksum for ever. At the first NMI's site everything is frozen;
every case starts there, and passes when the interrupted context, its stack and the user program
go on unchanged, every NMI was handled after it came, and the console shows no oops.

A site is a place in the kernel (`__do_sys_getppid`, `do_syscall_64+0x10`), `user` (amid the
checksum, at CPL 3) or `idle`. A schedule begins with the NMI at its site; before one that begins
amid the NMI's own code, an NMI at the default site is understood.

Examples:
  scripts/linux/build-test-kernel
  vmm list boundaries --kernel vmlinux
  vmm linux --kernel vmlinux --sweep --site user
  vmm linux --kernel vmlinuz --schedule 'nmi@asm_exc_nmi+0x4 unmask@end_repeat_nmi nmi@end_repeat_nmi'
  vmm linux --kernel vmlinux --sweep --mutate 'nmi_restore+0x1b=90'
  vmm linux --campaign scripts/campaigns/linux-test-kernel.toml
  vmm bench --linux

Ctrl-C stops a sweep at the next case and reports what was found (exit 75). A failing case
prints the command line that runs it again. Exits 0 where every verdict is as expected, 1
where not (a defect of the entry code, or a boundary that nothing could be said about), 65
for a bad kernel or one that does not come up, 69 for a host that cannot run it.
docs/guide/linux.md tells what is expected where, and why; docs/guide/json.md describes the JSON.";

/// `vmm linux`.
#[derive(Debug, Args)]
#[command(mut_arg("kernel", |a| a.required_unless_present("campaign")))]
pub struct Linux {
    /// What to do.
    #[command(flatten)]
    pub what: What,
    /// Where the first NMI arrives; may be repeated [default: the function of getppid]
    #[arg(long, value_name = "PLACE", requires = "sweep")]
    pub site: Vec<String>,
    /// Which NMI of a sweep goes from boundary to boundary
    #[arg(long, value_name = "PART", value_delimiter = ',', default_value = "second,third", value_parser = values::part())]
    pub part: Vec<Part>,
    /// How NMIs of a schedule are raised
    #[arg(long, value_name = "GEAR", default_value = "arm", value_parser = values::linux_gear())]
    pub gear: Gear,
    /// How long one case may take before it is a livelock
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..))]
    pub case_limit: u64,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The kernel.
    #[command(flatten)]
    pub kernel: KernelArgs,
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
    fn case_limit(&self) -> Duration {
        Duration::from_millis(self.case_limit)
    }
}

/// Does it.
pub fn run(args: &Linux, out: &mut Out) -> Result<Ending, Failure> {
    match &args.what {
        What { campaign: Some(file), .. } => campaign::campaign(args, file, out),
        What { schedule: Some(schedule), .. } => one(args, schedule, out),
        _ => sweeps(args, out),
    }
}

/// What a result begins with.
fn header(document: &Document) -> String {
    let kernel = &document.kernel;
    format!(
        "{}\nhost   {}\nkernel {} ({}), symbols from {}\nhelp for this host: {}",
        kernel.file, document.host, kernel.version, kernel.image, kernel.symbols, document.assists
    )
}

fn sweeps(args: &Linux, out: &mut Out) -> Result<Ending, Failure> {
    let mut said = Said::new(args.output.outputs(Kind::JUDGES)?);
    let sites = if args.site.is_empty() { vec![String::new()] } else { args.site.clone() };
    let stop: Arc<AtomicBool> = on_interrupt();
    let mut booted = args.kernel.boot(&sites[0], &stop)?;
    booted.lab.set_limit(args.case_limit());
    let mut document = Document::new(booted.info, &booted.lab);
    said.line(&format!("{}\n", header(&document)), out)?;
    let how = How { kernel: &args.kernel, stop: &stop };
    for (i, site) in sites.iter().enumerate() {
        if i > 0 {
            booted.lab.go(&args.kernel.mutate, site)?;
        }
        how.sweep(&mut booted.lab, &args.part, &mut document, &mut said, out)?;
    }
    said.write(&document, out)?;
    let ending = ending(&document);
    if ending == Ending::Interrupted {
        say("interrupted; these are the results so far");
    }
    Ok(ending)
}

fn one(args: &Linux, text: &str, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let mut booted = args.kernel.boot(Lab::site_of(text), &AtomicBool::new(false))?;
    let lab = &mut booted.lab;
    lab.set_limit(args.case_limit());
    let schedule = lab.schedule(text)?;
    let which = if args.gear == Gear::Jump { Which::Jump } else { Which::Arm };
    let outcome = lab.case(&schedule.0, which)?;
    let shown = lab.show_schedule(&schedule.0);
    let document = Document::new(booted.info, lab);
    let case = LinuxCase {
        host: &document.host,
        kernel: &document.kernel,
        assists: document.assists,
        gear: args.gear.name(),
        case: CaseRow::alone(&outcome, shown, "pass", |s| args.kernel.replay(&args.kernel.mutate, s)),
        verdict: outcome.verdict.to_string(),
        header: header(&document),
    };
    outputs.write(&case, out)?;
    Ok(if outcome.verdict.is_pass() && outcome.unreached == 0 { Ending::Expected } else { Ending::Unexpected })
}
