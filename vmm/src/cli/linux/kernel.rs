//! The kernel that a command line names, and its boot.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressDrawTarget;

use crate::cli::failure::Failure;
use crate::cli::input;
use crate::cli::opened::Opened;
use crate::cli::progress::bar;
use crate::inject::Gear;
use crate::kernels::linux::{Linux, Options, symbols_of_image, vmlinux};
use crate::kernels::pc::{About, Error, KernelSymbols, Saved};
use crate::kernels::{FaultBy, KernelInfo, Lab, LabError, Running, Start, cache, check, quoted, replay};
use crate::kvm::{Host, interrupt_after};
use crate::report::plain;

/// Which kernel, and how it is booted.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Linux kernel")]
pub struct KernelArgs {
    /// A bzImage (vmlinuz) or an ELF vmlinux
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// An initial RAM disk of yours; the lab's program is added to it
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// A System.map or an ELF with symbols [default: the image's own, or its kallsyms]
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub symbols: Option<PathBuf>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub cmdline: String,
    /// RAM for the kernel [default: 256]
    #[arg(long, value_name = "MIB")]
    pub ram: Option<u64>,
    /// CPU time that the boot may take [default: 1800]
    #[arg(long, value_name = "SECONDS")]
    pub boot_limit: Option<u64>,
    /// Change the kernel's code after it has booted, as in 'nmi_restore+0x1b=90'
    #[arg(long, value_name = "PLACE=BYTES")]
    pub mutate: Vec<String>,
    /// Show the kernel's console on stderr while it boots
    #[arg(long)]
    pub console: bool,
    /// Boot, and save the machine that came up to a file
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub save: Option<PathBuf>,
    /// Start from a saved machine; nothing boots
    #[arg(long, value_name = "FILE", conflicts_with_all = ["save", "no_cache"])]
    pub from: Option<PathBuf>,
    /// Boot even if this kernel came up before, and keep nothing
    #[arg(long)]
    pub no_cache: bool,
}

/// A kernel that has come up, its file's name, its image's hash, and the words that the user gave it.
type Up = (Running, String, String, String);

/// What is to be done with a kernel, as far as it can be checked before the kernel boots.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Sites, in the order in which they are gone to.
    pub sites: Vec<String>,
    /// A schedule, instead of sites.
    pub schedule: Option<String>,
    /// Changes to the kernel's code, those of each run; the first run's first.
    pub mutations: Vec<Vec<String>>,
    /// Where handlers are to fault, or `auto`.
    pub faults: Vec<String>,
}

impl Plan {
    fn start(&self) -> Start<'_> {
        match &self.schedule {
            Some(text) => Start::Schedule(text),
            None => Start::Site(self.sites.first().map_or("", String::as_str)),
        }
    }

    /// Whether the symbols have what is named.
    fn check(&self, kernel: &Linux) -> Result<(), LabError> {
        // Where one of several sites is not there, the others are swept.
        let sites = self.sites.iter().map(|site| check::site(site, kernel, &kernel.symbols));
        let wrong: Vec<LabError> = sites.filter_map(Result::err).collect();
        let all_wrong = wrong.len() == self.sites.len();
        if let Some(why) = wrong.into_iter().next().filter(|_| all_wrong) {
            return Err(why);
        }
        if let Some(text) = &self.schedule {
            check::schedule(text, &kernel.symbols)?;
        }
        for place in self.faults.iter().filter(|place| *place != "auto") {
            check::fault(place, &kernel.symbols)?;
        }
        self.mutations.iter().flatten().try_for_each(|m| check::mutation(m, &kernel.symbols).map(|_| ()))
    }
}

/// Reads a saved machine.
fn saved(path: &Path) -> Result<Saved, Failure> {
    let saved = cache::read(path).and_then(|bytes| Saved::read(&bytes));
    saved.map_err(|why| match why {
        why @ Error::File { .. } => LabError::from(why).into(),
        why => Failure::Input {
            name: path.display().to_string(),
            why: format!("{why} (`vmm linux cache clear` removes what is kept)"),
        },
    })
}

/// A kernel that has come up.
pub struct Booted {
    pub lab: Lab,
    pub info: KernelInfo,
    pub host: Host,
}

impl KernelArgs {
    /// The kernel's file, which the command line must name.
    pub fn file(&self) -> Result<&Path, Failure> {
        self.kernel.as_deref().ok_or_else(|| Failure::Usage("--kernel is missing (or --from)".into()))
    }

    /// Whether a kernel is named at all, by its file or by a machine's.
    pub fn named(&self) -> Result<(), Failure> {
        match &self.from {
            Some(_) => Ok(()),
            None => self.file().map(|_| ()),
        }
    }

    fn options(&self) -> Result<Options, Failure> {
        Ok(Options {
            ram_mib: self.ram.unwrap_or(256),
            cmdline: self.cmdline.clone(),
            initrd: self.initrd.as_deref().map(read).transpose()?.unwrap_or_default(),
        })
    }

    /// Has it come up, and goes to where a schedule starts, or to the default site where
    /// `plan` names none. Gives up when `stop` is set.
    pub fn boot(&self, plan: &Plan, opened: Opened, stop: &AtomicBool) -> Result<Booted, Failure> {
        // While the kernel boots this is also how often a busy CPU gets its timer's
        // interrupts.
        interrupt_after(Duration::from_millis(20));
        let host = opened.host()?;
        let (running, file, image, cmdline) = match &self.from {
            Some(from) => self.resume(&host, from, plan)?,
            None => self.up(&host, plan, stop)?,
        };
        let help = running.assists();
        let mut lab = Lab::new(running)?;
        if plan.sites.is_empty() {
            let mutations = plan.mutations.first().cloned().unwrap_or_default();
            lab.go(&mutations, plan.start())?;
        }
        log::info!("help for this host: {help}");
        let words = Options { cmdline, ..Options::default() }.chosen();
        let info = KernelInfo::of(file, image, words, &lab);
        Ok(Booted { lab, info, host })
    }

    /// A kernel from the file that `--from` names.
    fn resume(&self, host: &Host, from: &Path, plan: &Plan) -> Result<Up, Failure> {
        let saved = saved(from)?;
        if self.kernel.is_some() {
            let key = self.linux()?.0.key(host);
            if saved.header.key != key {
                let why = "it is of another kernel, command line, RAM, host or version of vmm than those given";
                return Err(Failure::Input { name: from.display().to_string(), why: why.into() });
            }
        }
        let (file, image) = (saved.header.file.clone(), saved.header.image.clone());
        let cmdline = saved.header.cmdline.clone();
        let kernel = Linux { elf: Vec::new(), symbols: saved.header.symbols.clone(), options: Options::default() };
        plan.check(&kernel)?;
        Ok((Running::resume(host, Box::new(kernel), saved)?, file, image, cmdline))
    }

    /// The kernel that `--kernel` names, and the hash of its image.
    fn linux(&self) -> Result<(Linux, String), Failure> {
        let file = self.file()?;
        let elf = vmlinux(read(file)?).map_err(|why| bad(file, why))?;
        let (symbols, of) = match &self.symbols {
            Some(path) => (KernelSymbols::of_file(&read(path)?), path.as_path()),
            None => (symbols_of_image(&elf), file),
        };
        let symbols = symbols.map_err(|why| bad(of, why))?;
        log::info!("{} symbols, from {}", symbols.len(), symbols.source);
        let image = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&elf));
        Ok((Linux { elf, symbols, options: self.options()? }, image))
    }

    /// The kernel that `--kernel` names, out of the cache where it came up before.
    fn up(&self, host: &Host, plan: &Plan, stop: &AtomicBool) -> Result<Up, Failure> {
        let name = self.file()?.display().to_string();
        let (kernel, image) = self.linux()?;
        plan.check(&kernel)?;
        let key = kernel.key(host);
        let kept = cache::cached(&key);
        if !self.no_cache && self.save.is_none() && kept.exists() {
            let saved = saved(&kept)?;
            log::info!("{name} came up before: {}", kept.display());
            return Ok((Running::resume(host, Box::new(kernel), saved)?, name, image, self.cmdline.clone()));
        }
        let about = About { key, file: name.clone(), image: image.clone(), cmdline: self.cmdline.clone() };
        let running = self.wait_for(host, kernel, stop)?;
        let to = self.save.clone().or_else(|| (!self.no_cache).then_some(kept));
        if let Some(to) = to {
            let bytes = running.save(host, about).map_err(LabError::from)?;
            let written = match &self.save {
                // The sandbox lets no file be made beside it.
                Some(to) => cache::overwrite(to, &bytes),
                None => cache::write(&to, &bytes),
            };
            match (written, &self.save) {
                (Err(why), Some(_)) => return Err(LabError::from(why).into()),
                // Without a cache it boots each time.
                (Err(why), None) => log::warn!("the machine is not kept: {why}"),
                (Ok(()), _) => log::info!("the machine is kept in {}", to.display()),
            }
        }
        Ok((running, name, image, self.cmdline.clone()))
    }

    /// Boots it, and shows how that goes on: at a terminal always, else every ten seconds.
    fn wait_for(&self, host: &Host, kernel: Linux, stop: &AtomicBool) -> Result<Running, Failure> {
        let bar = bar("{spinner} {elapsed} · boot: waiting for {wide_msg}");
        let echo = self.console.then(|| Box::new(std::io::stderr()) as Box<dyn std::io::Write + Send>);
        if self.console {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let limit = Duration::from_secs(self.boot_limit.unwrap_or(1800));
        let mut progress = |waits: &str, line: &str| {
            let message = if line.is_empty() { waits.to_owned() } else { format!("{waits} · {}", plain(line)) };
            bar.set_message(message);
            !stop.load(Relaxed)
        };
        let running = Running::boot(host, Box::new(kernel), limit, echo, &mut progress)?;
        bar.finish_and_clear();
        log::info!("booted in {:.1?}", bar.elapsed());
        Ok(running)
    }

    /// The words that run the same kernel again, without any change of it.
    pub fn command(&self) -> String {
        let mut words = vec!["vmm linux".to_owned()];
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("--{name} {}", quoted(&value))));
        };
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        option("kernel", shown(&self.kernel));
        option("from", shown(&self.from));
        option("initrd", shown(&self.initrd));
        option("symbols", shown(&self.symbols));
        option("cmdline", Some(self.cmdline.clone()).filter(|c| !c.is_empty()));
        option("ram", self.ram.map(|ram| ram.to_string()));
        option("boot-limit", self.boot_limit.map(|seconds| seconds.to_string()));
        words.join(" ")
    }

    /// The command line that carries out a schedule on the same kernel, changed in the same way.
    pub fn replay(&self, by: FaultBy, gear: Gear, case_limit: u64, schedule: &str) -> String {
        replay(&self.command(), &self.mutate, by, gear.name(), case_limit, schedule)
    }
}

fn bad(file: &Path, why: Error) -> Failure {
    Failure::Image { name: file.display().to_string(), why: why.to_string() }
}

/// A file's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = input::bytes(path, input::MOST_KERNEL).map_err(|why| Error::File { path: path.to_owned(), why });
    Ok(read.map_err(LabError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_line_is_one_that_a_shell_reads_back() {
        let args = KernelArgs {
            kernel: Some("my kernel".into()),
            initrd: None,
            symbols: None,
            cmdline: "it's".into(),
            ram: Some(64),
            boot_limit: None,
            mutate: vec!["a=9090".into()],
            console: false,
            save: None,
            from: None,
            no_cache: false,
        };
        let line = args.replay(FaultBy::Spurious, Gear::Jump, 250, "nmi@user#1 nmi@b#1");
        assert_eq!(
            line,
            r"vmm linux --kernel 'my kernel' --cmdline 'it'\''s' --ram 64 --mutate a=9090 --gear jump --case-limit 250 --schedule 'nmi@user#1 nmi@b#1'"
        );
    }
}
