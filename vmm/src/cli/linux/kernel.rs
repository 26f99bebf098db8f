//! The kernel that a command line names, and its boot.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use crate::cli::boot::{Boot, Booted, Plan, bad, hash, look_in, read, saved, shown};
use crate::cli::failure::Failure;
use crate::cli::opened::Opened;
use crate::inject::Gear;
use crate::kernels::linux::{Linux, Options, symbols_of_image, vmlinux};
use crate::kernels::pc::{About, KernelSymbols};
use crate::kernels::{FaultBy, KernelInfo, Running, quoted, replay};
use crate::kvm::Host;

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
        look_in();
        let host = opened.host()?;
        let (running, file, image, cmdline) = match &self.from {
            Some(from) => self.resume(&host, from, plan)?,
            None => self.up(&host, plan, stop)?,
        };
        let lab = plan.lab(running)?;
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
        plan.check(&kernel, &kernel.symbols)?;
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
        let image = hash(&elf);
        Ok((Linux { elf, symbols, options: self.options()? }, image))
    }

    /// The kernel that `--kernel` names, out of the cache where it came up before.
    fn up(&self, host: &Host, plan: &Plan, stop: &AtomicBool) -> Result<Up, Failure> {
        let name = self.file()?.display().to_string();
        let (kernel, image) = self.linux()?;
        plan.check(&kernel, &kernel.symbols)?;
        let (key, cmdline) = (kernel.key(host), self.cmdline.clone());
        let about = About { key, file: name.clone(), image: image.clone(), cmdline: cmdline.clone() };
        let boot = Boot {
            limit: Duration::from_secs(self.boot_limit.unwrap_or(1800)),
            console: self.console,
            save: self.save.as_deref(),
            no_cache: self.no_cache,
            stop,
        };
        Ok((boot.up(host, Box::new(kernel), about)?, name, image, cmdline))
    }

    /// The words that run the same kernel again, without any change of it.
    pub fn command(&self) -> String {
        let mut words = vec!["vmm linux".to_owned()];
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("--{name} {}", quoted(&value))));
        };
        option("kernel", shown(self.kernel.as_ref()));
        option("from", shown(self.from.as_ref()));
        option("initrd", shown(self.initrd.as_ref()));
        option("symbols", shown(self.symbols.as_ref()));
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
