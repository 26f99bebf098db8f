//! `vmm xen`: NMIs into the real Xen, with a paravirtual guest of the lab's on it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::boot::{Boot, Booted, Plan, bad, hash, look_in, read};
use super::failure::{Ending, Failure};
use super::inject::Inject;
use super::opened::Opened;
use super::out::Out;
use crate::kernels::pc::About;
use crate::kernels::xen::{Body, Xen, hypervisor, symbols};
use crate::kernels::{KernelInfo, quoted};

/// What `vmm xen --help` says below the options.
pub const HELP: &str = "\
Xen boots by multiboot in a PC of the lab's own, with a paravirtual guest as dom0 (guest/xen-pv) that
computes a checksum, makes hypercalls, and takes NMIs by a callback. A case passes when the interrupted
context is what it was, no memory has changed but what Xen as it came up writes for NMIs, Xen counted
every NMI, says nothing and goes on, the guest was told of the last NMI after it came, its callback was
not entered while its body was active, and nothing is left pending or masked.

Sites: a place in Xen (`do_xen_version`, the default: in a hypercall; `pv_emulate_privileged_op`:
while Xen emulates the guest's OUT), or in the guest (`pv_work`, `pv_hypercall`). A schedule may name the callback, too:
pv_nmi, pv_body, pv_fault, pv_iret (HYPERVISOR_iret).

Examples:
  scripts/xen/fetch-debian-xen
  vmm xen --hypervisor xen.gz --symbols xen-syms --sweep
  vmm xen --hypervisor xen.gz --symbols xen-syms --body ud --schedule 'nmi@pv_work nmi@pv_fault'
  vmm xen --hypervisor xen.gz --symbols xen-syms costs --site pv_work
  vmm xen --hypervisor xen.gz --symbols xen-syms explore --max-states 100000

Exits 0 where every verdict is as expected, 1 where not, 65 for a bad file or one that does not come up,
69 for a host that cannot run it. docs/guide/xen.md tells the rest.";

/// `vmm xen`.
#[derive(Debug, Args)]
pub struct XenArgs {
    /// What to do.
    #[command(flatten)]
    pub what: Inject,
    /// The hypervisor: an ELF file with a multiboot header, or that packed by gzip
    #[arg(long, value_name = "XEN", help_heading = "Xen")]
    pub hypervisor: PathBuf,
    /// Its symbols, of the same build
    #[arg(long, value_name = "XEN-SYMS", help_heading = "Xen")]
    pub symbols: PathBuf,
    /// What the guest's NMI callback does: nothing, ud or page-fault (it takes that exception, and
    /// returns from it by HYPERVISOR_iret), ud-flag (it returns with the flag of a patched Xen),
    /// hypercalls
    #[arg(long, value_name = "BODY", default_value = "nothing", value_parser = body, help_heading = "Xen")]
    pub body: Body,
    /// Where the first NMI arrives; may be repeated [default: do_xen_version]
    #[arg(long, value_name = "PLACE", help_heading = "Xen")]
    pub site: Vec<String>,
    /// Words to add to Xen's command line
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true, help_heading = "Xen")]
    pub cmdline: String,
    /// RAM for Xen and its guest
    #[arg(long, value_name = "MIB", default_value = "48", value_parser = clap::value_parser!(u64).range(32..=3072), help_heading = "Xen")]
    pub ram: u64,
    /// CPU time that the boot may take
    #[arg(long, value_name = "SECONDS", default_value = "300", help_heading = "Xen")]
    pub boot_limit: u64,
    /// Show Xen's console on stderr while it boots
    #[arg(long, help_heading = "Xen")]
    pub console: bool,
    /// Boot even if this hypervisor came up before, and keep nothing
    #[arg(long, help_heading = "Xen")]
    pub no_cache: bool,
}

fn body(text: &str) -> Result<Body, String> {
    let found = Body::ALL.iter().find(|(name, _)| *name == text).map(|(_, body)| *body);
    let names = Body::ALL.map(|(name, _)| name).join(", ");
    found.ok_or_else(|| format!("unknown body {text:?}; expected one of {names}"))
}

/// Carries out the command.
pub fn run(args: &XenArgs, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    look_in();
    args.what.run(&args.site, args.command(), |plan, stop| args.boot(plan, opened, stop), out)
}

impl XenArgs {
    fn xen(&self) -> Result<Xen, Failure> {
        let image = hypervisor(read(&self.hypervisor)?).map_err(|why| bad(&self.hypervisor, why))?;
        let symbols = symbols(&image, &read(&self.symbols)?).map_err(|why| bad(&self.symbols, why))?;
        Ok(Xen { image, symbols, cmdline: self.cmdline.clone(), ram_bytes: self.ram << 20, body: self.body })
    }

    fn boot(&self, plan: &Plan, opened: Opened, stop: &AtomicBool) -> Result<Booted, Failure> {
        let xen = self.xen()?;
        plan.check(&xen, &xen.symbols)?;
        let (file, image, host) = (self.hypervisor.display().to_string(), hash(&xen.image), opened.host()?);
        let words = format!("--body {} {}", self.body.name(), self.cmdline).trim().to_owned();
        let about = About { key: xen.key(&host), file: file.clone(), image: image.clone(), cmdline: words.clone() };
        let (limit, console, no_cache) = (Duration::from_secs(self.boot_limit), self.console, self.no_cache);
        let boot = Boot { limit, console, save: None, no_cache, stop };
        let lab = plan.lab(boot.up(&host, Box::new(xen), about)?)?;
        let info = KernelInfo::of(file, image, words, &lab);
        Ok(Booted { lab, info, host })
    }

    /// The words that run the same hypervisor again.
    fn command(&self) -> String {
        let file = |path: &PathBuf| quoted(&path.display().to_string());
        let (hypervisor, symbols, body) = (file(&self.hypervisor), file(&self.symbols), self.body.name());
        let mut words =
            format!("vmm xen --hypervisor {hypervisor} --symbols {symbols} --body {body} --ram {}", self.ram);
        if !self.cmdline.is_empty() {
            words += &format!(" --cmdline {}", quoted(&self.cmdline));
        }
        words
    }
}
