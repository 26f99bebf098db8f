//! `vmm xen`: NMIs into the real Xen, with a paravirtual guest of the lab's on it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::boot::{Boot, Booted, Plan, bad, hash, look_in, read};
use super::case::Injects;
use super::dom0::Guest;
use super::failure::{Ending, Failure};
use super::inject::Inject;
use super::opened::Opened;
use super::out::Out;
use crate::kernels::pc::About;
use crate::kernels::xen::{Body, Xen, hypervisor, symbols};
use crate::kernels::{KernelInfo, Lab, quoted};
use crate::kvm::Host;

/// What `vmm xen --help` says below the options.
pub const HELP: &str = "\
Xen boots by multiboot in a PC of the lab's own, with a paravirtual guest as dom0 (guest/xen-pv) that
computes a checksum, makes hypercalls, and takes NMIs by a callback. A case passes when the interrupted
context is what it was, no memory has changed but what Xen as it came up writes for NMIs, Xen counted
every NMI, says nothing and goes on, the guest was told of the last NMI after it came, its callback was
not entered while its body was active, and nothing is left pending or masked.

Sites: a place in Xen (`do_xen_version`, the default: in a hypercall; `pv_emulate_privileged_op`:
while Xen emulates the guest's OUT), or in the guest (`pv_work`, `pv_hypercall`). A schedule may name
the callback, too: pv_nmi, pv_body, pv_fault, pv_iret (HYPERVISOR_iret).

Instead of the lab's guest a guest of yours (--guest) or Linux (--dom0) runs on Xen. The sites are
then its own symbols, and Xen's.

Examples:
  scripts/xen/fetch-debian-xen
  vmm xen --hypervisor xen.gz --symbols xen-syms --sweep
  vmm xen --hypervisor xen.gz --symbols xen-syms --body ud --schedule 'nmi@pv_work nmi@pv_fault'
  vmm xen --hypervisor xen.gz --symbols xen-syms costs --site pv_work
  vmm xen --hypervisor xen.gz --symbols xen-syms explore --max-states 100000
  vmm xen --hypervisor xen.gz --symbols xen-syms necessity --out xen-necessity
  vmm xen --hypervisor xen.gz --symbols xen-syms --guest mine.elf --alive 0x4f0 --counter nmis --sweep
  vmm xen --hypervisor xen.gz --symbols xen-syms --dom0 vmlinuz --schedule nmi@__x64_sys_getppid

Exits 0 where every verdict is as expected, 1 where not, 65 for a bad file or one that does not come up,
69 for a host that cannot run it. docs/guide/xen.md tells the rest.";

/// MiB of RAM, unless told: for a guest of a few pages, and for Linux.
const RAM_MIB: [u64; 2] = [48, 384];
/// CPU seconds that the boot may take, unless told.
const BOOT_SECONDS: u64 = 300;

/// `vmm xen`.
#[derive(Debug, Args)]
pub struct XenArgs {
    /// What to do.
    #[command(flatten)]
    pub what: Inject,
    /// The hypervisor.
    #[command(flatten)]
    pub machine: Machine,
    /// Where the first NMI arrives; may be repeated [default: do_xen_version]
    #[arg(long, value_name = "PLACE", help_heading = "Xen")]
    pub site: Vec<String>,
}

/// A hypervisor and its guest.
#[derive(Clone, Debug, Args)]
pub struct Machine {
    /// The hypervisor: an ELF file with a multiboot header, or that packed by gzip
    #[arg(long, value_name = "XEN", help_heading = "Xen")]
    pub hypervisor: PathBuf,
    /// Its symbols, of the same build
    #[arg(long, value_name = "XEN-SYMS", help_heading = "Xen")]
    pub symbols: PathBuf,
    /// What runs on it.
    #[command(flatten)]
    pub guest: Guest,
    /// Words to add to Xen's command line
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true, help_heading = "Xen")]
    pub cmdline: String,
    /// RAM for Xen and its guest [default: 48; with --dom0 384]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(32..=3072), help_heading = "Xen")]
    pub ram: Option<u64>,
    /// CPU time that the boot may take
    #[arg(long, value_name = "SECONDS", default_value_t = BOOT_SECONDS, help_heading = "Xen")]
    pub boot_limit: u64,
    /// Show Xen's console on stderr while it boots
    #[arg(long, help_heading = "Xen")]
    pub console: bool,
    /// Boot even if this hypervisor came up before, and keep nothing
    #[arg(long, help_heading = "Xen")]
    pub no_cache: bool,
}

/// Carries out the command.
pub fn run(args: &XenArgs, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    look_in();
    args.what.run(&args.site, args.command(), |plan, stop| args.up(plan, opened, stop), out)
}

impl Injects for XenArgs {
    fn what(&self) -> &Inject {
        &self.what
    }

    fn command(&self) -> String {
        self.machine.command()
    }

    fn up(&self, plan: &Plan, opened: Opened, stop: &AtomicBool) -> Result<Booted, Failure> {
        self.machine.boot(plan, opened, stop)
    }
}

impl Machine {
    /// These files, and everything else as is usual.
    pub fn of(hypervisor: PathBuf, symbols: PathBuf, body: Body) -> Self {
        let (cmdline, ram, boot_limit, guest) = (String::new(), None, BOOT_SECONDS, Guest::own(body));
        Self { hypervisor, symbols, guest, cmdline, ram, boot_limit, console: false, no_cache: false }
    }

    /// MiB of RAM.
    fn ram(&self) -> u64 {
        self.ram.unwrap_or(RAM_MIB[usize::from(self.guest.dom0.is_some())])
    }

    fn xen(&self) -> Result<Xen, Failure> {
        let image = hypervisor(read(&self.hypervisor)?).map_err(|why| bad(&self.hypervisor, why))?;
        let symbols = symbols(&image, &read(&self.symbols)?).map_err(|why| bad(&self.symbols, why))?;
        Ok(Xen::new(image, symbols, self.cmdline.clone(), self.ram() << 20, self.guest.dom0()?))
    }

    fn boot(&self, plan: &Plan, opened: Opened, stop: &AtomicBool) -> Result<Booted, Failure> {
        let host = opened.host()?;
        let (lab, info) = self.up(plan, &host, stop)?;
        Ok(Booted { lab, info, host })
    }

    /// The files that it reads.
    pub fn reads(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.hypervisor, &self.symbols].into_iter().chain(self.guest.reads())
    }

    /// Has it come up, and goes to where `plan` says.
    pub fn up(&self, plan: &Plan, host: &Host, stop: &AtomicBool) -> Result<(Lab, KernelInfo), Failure> {
        let xen = self.xen()?;
        plan.check(&xen, &xen.symbols)?;
        let (file, image) = (self.hypervisor.display().to_string(), hash(&xen.image));
        let words = format!("{} {}", self.guest.command(), self.cmdline).trim().to_owned();
        let about = About { key: xen.key(host), file: file.clone(), image: image.clone(), cmdline: words.clone() };
        let (limit, console, no_cache) = (Duration::from_secs(self.boot_limit), self.console, self.no_cache);
        let boot = Boot { limit, console, save: None, no_cache, stop };
        let lab = plan.lab(boot.up(host, Box::new(xen), about)?)?;
        let info = KernelInfo::of(file, image, words, &lab);
        Ok((lab, info))
    }

    /// The words that run the same hypervisor again.
    fn command(&self) -> String {
        let file = |path: &PathBuf| quoted(&path.display().to_string());
        let (hypervisor, symbols, guest) = (file(&self.hypervisor), file(&self.symbols), self.guest.command());
        let mut words = format!("vmm xen --hypervisor {hypervisor} --symbols {symbols} {guest} --ram {}", self.ram());
        if !self.cmdline.is_empty() {
            words += &format!(" --cmdline {}", quoted(&self.cmdline));
        }
        words
    }
}
