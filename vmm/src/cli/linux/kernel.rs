//! The kernel that a command line names, and its boot.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::failure::Failure;
use crate::kernels::linux::{KernelSymbols, Options};
use crate::kernels::pc::{Error, vmlinux};
use crate::kernels::{KernelInfo, Lab, LabError, Setup};
use crate::kvm::interrupt_after;
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
    /// How long the boot may take [default: 1800]
    #[arg(long, value_name = "SECONDS")]
    pub boot_limit: Option<u64>,
    /// Change the kernel's code after it has booted, as in 'nmi_restore+0x1b=90'
    #[arg(long, value_name = "PLACE=BYTES")]
    pub mutate: Vec<String>,
    /// Show the kernel's console on stderr while it boots
    #[arg(long)]
    pub console: bool,
}

/// A kernel that has come up.
pub struct Booted {
    pub lab: Lab,
    pub info: KernelInfo,
}

impl KernelArgs {
    /// The kernel's file, which the command line must name.
    pub fn file(&self) -> Result<&Path, Failure> {
        self.kernel.as_deref().ok_or_else(|| Failure::Usage("--kernel is missing".into()))
    }

    fn options(&self) -> Result<Options, Failure> {
        Ok(Options {
            ram_mib: self.ram.unwrap_or(256),
            cmdline: self.cmdline.clone(),
            initrd: self.initrd.as_deref().map(read).transpose()?.unwrap_or_default(),
            boot_seconds: self.boot_limit.unwrap_or(1800),
        })
    }

    /// Boots it, and goes to the first NMI's site; until `stop` is set.
    pub fn boot(&self, site: &str, stop: &AtomicBool) -> Result<Booted, Failure> {
        let file = self.file()?;
        let elf = vmlinux(read(file)?).map_err(|why| bad(file, why))?;
        let (symbols, of) = match &self.symbols {
            Some(path) => (KernelSymbols::of_file(&read(path)?), path.as_path()),
            None => (KernelSymbols::of_image(&elf), file),
        };
        let symbols = symbols.map_err(|why| bad(of, why))?;
        log::info!("{} symbols, from {}", symbols.len(), symbols.source);
        let image = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&elf));
        // While the kernel boots this is also how often a busy CPU gets its timer's
        // interrupts.
        interrupt_after(Duration::from_millis(20));
        let host = crate::cli::host::open()?;
        let bar = bar("{spinner} {elapsed} · boot: waiting for {wide_msg}");
        let echo = self.console.then(|| Box::new(std::io::stderr()) as Box<dyn std::io::Write + Send>);
        if self.console {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let setup = Setup { elf, symbols, options: self.options()?, mutations: self.mutate.clone() };
        let mut progress = |waits: &str, line: &str| {
            bar.set_message(if line.is_empty() { waits.to_owned() } else { format!("{waits} · {}", plain(line)) });
            !stop.load(Relaxed)
        };
        let lab = Lab::new(&host, setup, site, echo, &mut progress)?;
        bar.finish_and_clear();
        log::info!("booted in {:.1?}; help for this host: {}", bar.elapsed(), lab.pc().assists());
        let info = KernelInfo::of(file.display().to_string(), image, &lab);
        Ok(Booted { lab, info })
    }

    /// The command line that boots the same kernel, changed by `mutate`, and runs a
    /// schedule on it.
    pub fn replay(&self, mutate: &[String], schedule: &str) -> String {
        let mut words = vec!["vmm linux".to_owned()];
        let mut option = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("--{name} {}", quoted(&value))));
        };
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        option("kernel", shown(&self.kernel));
        option("initrd", shown(&self.initrd));
        option("symbols", shown(&self.symbols));
        option("cmdline", Some(self.cmdline.clone()).filter(|c| !c.is_empty()));
        option("ram", self.ram.map(|ram| ram.to_string()));
        mutate.iter().for_each(|m| option("mutate", Some(m.clone())));
        option("schedule", Some(schedule.to_owned()));
        words.join(" ")
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn bad(file: &Path, why: Error) -> Failure {
    Failure::Image { name: file.display().to_string(), why: why.to_string() }
}

/// A file's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = std::fs::read(path).map_err(|why| Error::File { path: path.to_owned(), why });
    Ok(read.map_err(LabError::from)?)
}

/// A progress line.
pub fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
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
            mutate: Vec::new(),
            console: false,
        };
        let line = args.replay(&["a=9090".to_owned()], "nmi@user#1 nmi@b#1");
        assert_eq!(
            line,
            r"vmm linux --kernel 'my kernel' --cmdline 'it'\''s' --ram 64 --mutate a=9090 --schedule 'nmi@user#1 nmi@b#1'"
        );
    }
}
