//! `vmm kernel`: NMIs into any kernel that boots by multiboot 1.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::alive::alive;
use super::boot::{Boot, Booted, Plan, bad, hash, look_in, read, waited};
use super::case::Injects;
use super::failure::{Ending, Failure};
use super::inject::Inject;
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::Out;
use crate::kernels::any::{Any, symbols};
use crate::kernels::pc::{About, Module};
use crate::kernels::{Alive, KernelInfo, LabError, Start, quoted, resolve, run_to_end};

/// What `vmm kernel --help` says below the options.
pub const HELP: &str = "\
The kernel boots by multiboot 1 in a PC of the lab's own (one CPU, serial line at 0x3f8, 8259s, 8254,
local APIC, exit port 0xf4), and must be in 64-bit mode when NMIs come to it. Its NMI path is found
through the IDT. At the first NMI's site everything is frozen; every case starts there. It passes when
the interrupted context is what it was (every register, MSR, debug and vector register), no memory has
changed but what the kernel as it came up writes for NMIs, and the kernel lives on. Nothing of that
needs knowledge of the kernel; what you name is checked besides.

Examples:
  make -C scripts/examples/os
  vmm kernel --image os.elf --site work --counter nmi_count --panic panic --sweep
  vmm kernel --image os.elf --site work --schedule 'nmi@work unmask@nmi_body nmi@nmi_body'
  vmm kernel --image os.elf --site work explore
  vmm kernel --image os.elf --site work costs
  vmm kernel --image os.elf --site work necessity
  vmm kernel --image eventinj.flat --initrd env --run

Exits 0 where every verdict is as expected, 1 where not, 65 for a bad kernel or one that does not come
up, 69 for a host that cannot run it. docs/guide/kernel.md tells the rest.";

/// `vmm kernel`.
#[derive(Debug, Args)]
pub struct Kernel {
    /// What to do.
    #[command(flatten)]
    pub what: Inject,
    /// Inject nothing: run until the kernel writes to the exit port (0xf4), as a kernel's own test does
    #[arg(long, group = "what")]
    pub run: bool,
    /// An ELF file, or a flat image, with a multiboot 1 header
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub image: PathBuf,
    /// A module that is loaded beside it
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub initrd: Option<PathBuf>,
    /// Its command line
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true, help_heading = "Kernel")]
    pub cmdline: String,
    /// An ELF file with its symbols [default: the image]
    #[arg(long, value_name = "FILE", help_heading = "Kernel")]
    pub symbols: Option<PathBuf>,
    /// Where the first NMI arrives; may be repeated. A schedule begins with it, too
    #[arg(long, value_name = "LABEL", required_unless_present_any = ["schedule", "run"], help_heading = "Kernel")]
    pub site: Vec<String>,
    /// The 32-bit word in which its handler counts NMIs
    #[arg(long, value_name = "SYMBOL", help_heading = "Kernel")]
    pub counter: Option<String>,
    /// Where it goes when it gives up; may be repeated
    #[arg(long, value_name = "SYMBOL", help_heading = "Kernel")]
    pub panic: Vec<String>,
    /// What shows that it lives: a port that it writes to, or code that it comes to [default: the
    /// site, again]
    #[arg(long, value_name = "PORT|SYMBOL", help_heading = "Kernel")]
    pub alive: Option<String>,
    /// RAM for the kernel
    #[arg(long, value_name = "MIB", default_value = "64", value_parser = clap::value_parser!(u64).range(2..=3072), help_heading = "Kernel")]
    pub ram: u64,
    /// CPU time that the boot may take
    #[arg(long, value_name = "SECONDS", default_value = "120", help_heading = "Kernel")]
    pub boot_limit: u64,
    /// Show the kernel's console on stderr while it boots
    #[arg(long, help_heading = "Kernel")]
    pub console: bool,
    /// Boot even if this kernel came up before, and keep nothing
    #[arg(long, help_heading = "Kernel")]
    pub no_cache: bool,
}

/// Carries out the command.
pub fn run(args: &Kernel, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    look_in();
    if args.run {
        return args.run_to_end(opened, out);
    }
    args.what.run(&args.site, args.command(), |plan, stop| args.up(plan, opened, stop), out)
}

impl Injects for Kernel {
    fn what(&self) -> &Inject {
        &self.what
    }

    fn up(&self, plan: &Plan, opened: Opened, stop: &AtomicBool) -> Result<Booted, Failure> {
        let kernel = self.kernel()?;
        plan.check(&kernel, &kernel.symbols)?;
        let (file, image) = (self.image.display().to_string(), hash(&kernel.image));
        let (host, cmdline) = (opened.host()?, self.cmdline.clone());
        let about =
            About { key: kernel.key(&host), file: file.clone(), image: image.clone(), cmdline: cmdline.clone() };
        let (limit, console, no_cache) = (Duration::from_secs(self.boot_limit), self.console, self.no_cache);
        let boot = Boot { limit, console, save: None, no_cache, stop };
        let lab = plan.lab(boot.up(&host, Box::new(kernel), about)?)?;
        let info = KernelInfo::of(file, image, cmdline, &lab);
        Ok(Booted { lab, info, host })
    }

    fn command(&self) -> String {
        let mut words = format!("vmm kernel --image {}", quoted(&self.image.display().to_string()));
        let mut option = |name: &str, value: &str| words += &format!(" --{name} {}", quoted(value));
        for (name, file) in [("initrd", &self.initrd), ("symbols", &self.symbols)] {
            file.iter().for_each(|file| option(name, &file.display().to_string()));
        }
        Some(&self.cmdline).filter(|c| !c.is_empty()).iter().for_each(|c| option("cmdline", c));
        self.counter.iter().for_each(|c| option("counter", c));
        self.panic.iter().for_each(|p| option("panic", p));
        self.alive.iter().for_each(|a| option("alive", a));
        option("ram", &self.ram.to_string());
        words
    }
}

impl Kernel {
    fn run_to_end(&self, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
        let outputs = self.what.outputs()?;
        let kernel = self.kernel()?;
        let (host, stop) = (opened.host()?, on_interrupt());
        let named = (self.image.display().to_string(), hash(&kernel.image));
        let ended = waited(self.console, &stop, |echo, progress| {
            run_to_end(&host, &kernel, named, Duration::from_secs(self.boot_limit), echo, progress)
        })?;
        outputs.write(&ended, out)?;
        Ok(if ended.exit == 0 { Ending::Expected } else { Ending::Unexpected })
    }

    /// The kernel, and what is said about it.
    fn kernel(&self) -> Result<Any, Failure> {
        let of = self.symbols.as_ref().unwrap_or(&self.image);
        let image = read(&self.image)?;
        let named = self.symbols.as_deref().map(read).transpose()?;
        let symbols = symbols(&image, named.as_deref()).map_err(|why| bad(of, why))?;
        let module = self.initrd.as_deref().map(read).transpose()?;
        let module = module.map(|bytes| Module { bytes, words: "initrd".into() });
        let place = |name: &str| resolve(name, &symbols).map_err(LabError::Site);
        let site = match (&self.site[..], &self.what.schedule) {
            _ if self.run => "idle",
            ([site, ..], _) => site.as_str(),
            ([], text) => Start::Schedule(text.as_deref().unwrap_or_default()).place(),
        };
        let alive = self.alive.as_deref().map(|sign| alive(sign, &symbols)).transpose()?;
        let (alive, port) = alive.unwrap_or((Alive::Site, 0));
        if site == "idle" && alive == Alive::Site && !self.run {
            let why = "at idle no code shows that the kernel is up: --alive PORT or SYMBOL names what does";
            return Err(Failure::Usage(why.into()));
        }
        Ok(Any {
            cmdline: self.cmdline.clone(),
            modules: module.into_iter().collect(),
            ram_bytes: self.ram << 20,
            site: if site == "idle" { 0 } else { place(site)? },
            counter: self.counter.as_deref().map(place).transpose()?,
            panics: self.panic.iter().map(|name| place(name)).collect::<Result<_, _>>()?,
            alive,
            port,
            image,
            symbols,
        })
    }

    /// The files that it reads.
    pub fn reads(&self) -> impl Iterator<Item = &PathBuf> {
        [Some(&self.image), self.initrd.as_ref(), self.symbols.as_ref()].into_iter().flatten()
    }
}
