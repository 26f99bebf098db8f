//! `vmm linux`: NMIs into a real Linux kernel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::{Ending, Failure};
use super::out::Out;
use crate::kvm::{Host, interrupt_after};
use crate::linux::{Campaign, Kind, Lab, LabError, Part, Setup, Sweep, Table, Which};
use crate::machine::linux::{Error, KernelSymbols, Options, vmlinux};

pub const HELP: &str = "\
The kernel boots in a PC of the lab's own (one CPU, serial line, timer) and runs a user program
of the lab's, which computes a checksum for ever. At the first NMI's site everything is frozen;
every case starts there, and passes when the interrupted context, its stack and the user program
go on unchanged, every NMI was handled after it came, and the console shows no oops.

A site is a place in the kernel (`__do_sys_getppid`, `do_syscall_64+0x10`), `user` (amid the
checksum, at CPL 3) or `idle`. A schedule begins with the NMI at its site.

Examples:
  scripts/linux/build-test-kernel
  vmm linux --kernel vmlinux --boundaries
  vmm linux --kernel vmlinux --sweep --site user
  vmm linux --kernel vmlinuz --schedule 'nmi@user unmask@end_repeat_nmi nmi@nested_nmi'
  vmm linux --kernel vmlinux --sweep --mutate 'nmi_restore+0x1b=90'
  vmm linux --campaign scripts/campaigns/linux-test-kernel.toml

Exit codes beyond those of `vmm --help`: 65 for a bad kernel image or one that does not come
up, 66 for a file that is not there, 69 for a host that cannot run it.";

/// `vmm linux`.
#[derive(Debug, Args)]
pub struct Linux {
    /// A bzImage (vmlinuz) or an ELF vmlinux
    #[arg(long, value_name = "FILE", required_unless_present = "campaign")]
    pub kernel: Option<PathBuf>,
    /// An initial RAM disk of yours; the lab's program is added to it
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// A System.map or an ELF with symbols [default: the image's own, or its kallsyms]
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub cmdline: String,
    /// RAM for the kernel
    #[arg(long, value_name = "MIB", default_value = "256")]
    pub ram: u64,
    /// How long the boot may take
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    pub boot_limit: u64,
    /// How long one case may take before it is a livelock
    #[arg(long, value_name = "MS", default_value = "250")]
    pub case_limit: u64,
    /// Change the kernel's code after it has booted, as in 'nmi_restore+0x1b=90'
    #[arg(long, value_name = "PLACE=BYTES")]
    pub mutate: Vec<String>,
    /// Show the kernel's console on stderr while it boots
    #[arg(long)]
    pub console: bool,
    /// Print JSON, a line for each case
    #[arg(long)]
    pub json: bool,
    /// Where the first NMI arrives [default: the function of getppid]
    #[arg(long, value_name = "PLACE")]
    pub site: Vec<String>,
    /// Which NMI of a sweep goes from boundary to boundary
    #[arg(long, value_name = "PART", value_delimiter = ',', default_value = "second,third")]
    pub part: Vec<Part>,
    /// How NMIs of a schedule are raised
    #[arg(long, value_name = "GEAR", default_value = "arm")]
    pub gear: GearArg,
    /// What to do.
    #[command(flatten)]
    pub what: What,
}

/// What to do with the kernel.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// List the NMI entry path as it is live in memory
    #[arg(long)]
    pub boundaries: bool,
    /// Run one schedule and judge it
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// A further NMI at every boundary of an NMI's path, NMIs blocked and unblocked
    #[arg(long)]
    pub sweep: bool,
    /// Run what a campaign file says
    #[arg(long, value_name = "FILE")]
    pub campaign: Option<PathBuf>,
    /// Measure restores and cases
    #[arg(long)]
    pub bench: bool,
}

/// How NMIs are raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GearArg {
    /// By KVM_NMI, as a device would
    Arm,
    /// By the vCPU's events
    Jump,
}

/// Does it.
pub fn run(args: &Linux, out: &mut Out) -> Result<Ending, Failure> {
    if let Some(file) = &args.what.campaign {
        return campaign(args, file, out);
    }
    let kernel = args.kernel.as_deref().ok_or_else(|| Failure::Usage("--kernel is missing".into()))?;
    let sites = if args.site.is_empty() { vec![String::new()] } else { args.site.clone() };
    let first = match &args.what.schedule {
        Some(schedule) => Lab::site_of(schedule).to_owned(),
        None => sites[0].clone(),
    };
    let options = Options {
        ram_mib: args.ram,
        cmdline: args.cmdline.clone(),
        initrd: args.initrd.as_deref().map(read).transpose()?.unwrap_or_default(),
        boot_seconds: args.boot_limit,
    };
    let mut lab = boot(args, kernel, args.symbols.as_deref(), options, args.mutate.clone(), &first)?;
    match &args.what {
        What { boundaries: true, .. } => boundaries(args, &lab, out),
        What { schedule: Some(schedule), .. } => one(args, &mut lab, schedule, out),
        What { bench: true, .. } => bench(&mut lab, out),
        _ => {
            let mut ending = Ending::Expected;
            for (i, site) in sites.iter().enumerate() {
                if i > 0 {
                    lab.go(site)?;
                }
                ending = worse(ending, sweep(args, &mut lab, &args.part, out)?.0);
            }
            Ok(ending)
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = std::fs::read(path).map_err(|why| Error::File { path: path.to_owned(), why });
    Ok(read.map_err(LabError::from)?)
}

fn boot(
    args: &Linux,
    kernel: &Path,
    symbols: Option<&Path>,
    options: Options,
    mutations: Vec<String>,
    site: &str,
) -> Result<Lab, Failure> {
    let elf = vmlinux(read(kernel)?).map_err(LabError::from)?;
    let symbols = match symbols {
        Some(path) => KernelSymbols::of_file(&read(path)?),
        None => KernelSymbols::of_image(&elf),
    };
    let symbols = symbols.map_err(LabError::from)?;
    log::info!("{} symbols, from {}", symbols.len(), symbols.source);
    // While the kernel boots this is also how often a busy CPU gets its timer's
    // interrupts.
    interrupt_after(Duration::from_millis(20));
    let host = Host::open()?;
    let bar = bar("{spinner} {elapsed} · boot: waiting for {msg}");
    let echo = args.console.then(|| Box::new(std::io::stderr()) as Box<dyn std::io::Write + Send>);
    if args.console {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let setup = Setup { elf, symbols, options, mutations };
    let mut lab = Lab::new(&host, setup, site, echo, &mut |waits, _| bar.set_message(waits.to_owned()))?;
    bar.finish_and_clear();
    lab.set_limit(Duration::from_millis(args.case_limit));
    log::info!("booted in {:.1?}; help for this host: {:?}", bar.elapsed(), lab.pc().assists());
    Ok(lab)
}

fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn boundaries(args: &Linux, lab: &Lab, out: &mut Out) -> Result<Ending, Failure> {
    let all = &lab.path().boundaries;
    if args.json {
        let rows: Vec<_> = all
            .iter()
            .map(|b| serde_json::json!({"address": format!("{:#x}", b.addr), "place": b.place, "instruction": b.text}))
            .collect();
        out.json(&rows)?;
        return Ok(Ending::Expected);
    }
    for b in all {
        out.line(&format!("{:#x}  {:28} {}", b.addr, b.place, b.text))?;
    }
    Ok(Ending::Expected)
}

fn one(args: &Linux, lab: &mut Lab, text: &str, out: &mut Out) -> Result<Ending, Failure> {
    let schedule = lab.schedule(text)?;
    let which = if args.gear == GearArg::Arm { Which::Arm } else { Which::Jump };
    let outcome = lab.case(&schedule.0, which)?;
    let shown = lab.show_schedule(&schedule.0);
    if args.json {
        out.json(&outcome.to_json(&shown))?;
    } else {
        out.line(&format!("schedule   {shown}"))?;
        out.line(&format!("verdict    {}", outcome.verdict))?;
        out.line(&format!(
            "NMIs       {} arrived, {} fell together, {} delivered, {} handled",
            outcome.arrived, outcome.coalesced, outcome.delivered, outcome.handled
        ))?;
        if outcome.unreached > 0 {
            out.line(&format!("           {} events' boundaries were never reached", outcome.unreached))?;
        }
    }
    Ok(if outcome.verdict.is_pass() && outcome.unreached == 0 { Ending::Expected } else { Ending::Unexpected })
}

/// Sweeps one site; returns the defects' places, too.
fn sweep(args: &Linux, lab: &mut Lab, parts: &[Part], out: &mut Out) -> Result<(Ending, Vec<String>), Failure> {
    let site = lab.show(lab.start().addr);
    let (mut ending, mut defects) = (Ending::Expected, Vec::new());
    for (part, kind) in parts.iter().flat_map(|p| [(*p, Kind::Masked), (*p, Kind::Unmasked)]) {
        let bar = bar("{bar:24} {percent:>3}% {elapsed} · {per_sec} · {eta} left");
        let (mut table, mut lines) = (Table::default(), Vec::new());
        let mut sweep = Sweep::new(lab, 16);
        let on_row = &mut |row: &crate::linux::Row, lab: &Lab, total: usize| {
            bar.set_length(total as u64);
            bar.inc(1);
            table.add(row, lab);
            if row.is_defect() {
                defects.push(lab.show(row.at.addr));
                lines.push(format!("DEFECT {}  {}", lab.show_schedule(&row.events), row.outcome.verdict));
            }
            if args.json {
                lines.push(row.outcome.to_json(&lab.show_schedule(&row.events)).to_string());
            }
        };
        match part {
            Part::Second => sweep.second(kind, on_row)?,
            Part::Third => sweep.third(kind, on_row)?,
        }
        let stats = sweep.stats();
        bar.finish_and_clear();
        for line in lines.iter().take(if args.json { usize::MAX } else { 20 }) {
            out.line(line)?;
        }
        if !args.json {
            let seconds = bar.elapsed().as_secs_f64();
            let title = format!("NMI #1 at {site}; {part}, NMIs {kind}");
            out.line(&format!("{title}: {} cases in {seconds:.1} s", stats.cases))?;
            out.line(&format!(
                "{} defects, {} not reached; {} run again by KVM_NMI, {} disagreed",
                stats.defects, stats.missed, stats.rechecked, stats.disagreed
            ))?;
            out.line(&table.show())?;
            out.line("")?;
            out.flush()?;
        }
        if stats.defects > 0 || stats.missed > 0 {
            ending = worse(ending, Ending::Unexpected);
        }
        if stats.disagreed > 0 {
            ending = Ending::Defect;
        }
    }
    Ok((ending, defects))
}

fn worse(a: Ending, b: Ending) -> Ending {
    if b.code() > a.code() { b } else { a }
}

fn campaign(args: &Linux, file: &Path, out: &mut Out) -> Result<Ending, Failure> {
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    let campaign = Campaign::parse(&text).map_err(|why| Failure::Image { name: file.display().to_string(), why })?;
    let mut ending = Ending::Expected;
    for run in &campaign.runs {
        let options = Options {
            ram_mib: campaign.ram,
            cmdline: campaign.cmdline.clone(),
            boot_seconds: campaign.boot_limit,
            ..Options::default()
        };
        let kernel = args.kernel.clone().unwrap_or_else(|| campaign.kernel());
        out.line(&format!("{}: {}, {}", campaign.name, kernel.display(), run.about))?;
        out.flush()?;
        let mut lab = boot(args, &kernel, args.symbols.as_deref(), options, run.mutate.clone(), &run.sites[0])?;
        for (i, site) in run.sites.iter().enumerate() {
            if i > 0 {
                lab.go(site)?;
            }
            let (got, defects) = sweep(args, &mut lab, &run.parts, out)?;
            let (ok, why) = run.judge(&defects);
            out.line(&format!("{}: {why}", if ok { "as expected" } else { "NOT AS EXPECTED" }))?;
            out.line("")?;
            ending = worse(
                ending,
                if got == Ending::Defect {
                    got
                } else if ok {
                    Ending::Expected
                } else {
                    Ending::Unexpected
                },
            );
        }
    }
    Ok(ending)
}

fn bench(lab: &mut Lab, out: &mut Out) -> Result<Ending, Failure> {
    let measured = crate::linux::bench(lab)?;
    for (what, median, unit) in measured {
        out.line(&format!("{what:44} {median:9.1} {unit}"))?;
    }
    Ok(Ending::Expected)
}
