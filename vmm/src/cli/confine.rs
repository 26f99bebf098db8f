//! The sandbox of a command: what it needs is opened, or named, before the rest is given up.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::args::{GuestArgs, ImageArgs};
use super::command::{Cli, Command};
use super::failure::Failure;
use super::host;
use super::linux::{self, KernelArgs};
use super::list::List;
use super::opened::{Opened, call_ns};
use super::output::OutputArgs;
use crate::kernels::cache::{kernel_cache, machine_cache};
use crate::kvm::Host;
use crate::report::SOURCES;
use crate::sandbox::{self, Calls, Files};

/// Opens what a command needs, and confines the process to that.
pub fn confine(cli: &Cli, line: Option<&Command>) -> Result<Opened, Failure> {
    let bare = cli.common.no_sandbox;
    let Some(mut needs) = Needs::of_line(&cli.command, line) else {
        return Ok(Opened { bare, host: None, files: None, call_ns: (0, 0) });
    };
    if !bare {
        sandbox::available()?;
    }
    let host = match needs.host {
        Kvm::No => None,
        Kvm::Measured => Some(host::open(bare)),
        Kvm::Bare => Some(Host::open().map_err(Failure::from)),
    };
    needs.make()?;
    let before = call_ns(host.as_ref());
    if bare {
        return Ok(Opened { bare, host, files: None, call_ns: (before, before) });
    }
    // What reads files of the kernel's, and is used later.
    host::cpus();
    crate::explore::memory::resident();
    sandbox::enter(&needs.files, needs.calls)?;
    let after = call_ns(host.as_ref());
    Ok(Opened { bare, host, files: Some(needs.files), call_ns: (before, after) })
}

/// Most source files beside an image that can be read.
const MOST_SOURCES: usize = 256;

/// The source files in an image's folder, which its DWARF may name: a page shows their lines beside
/// the code. A link may lead anywhere, and is none.
fn sources_beside(image: &Path) -> Vec<PathBuf> {
    let folder = image.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_source = |path: &PathBuf| {
        let named = path.extension().and_then(|e| e.to_str()).is_some_and(|e| SOURCES.contains(&e));
        named && path.symlink_metadata().is_ok_and(|m| m.is_file())
    };
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|all| all.flatten().map(|entry| entry.path()).filter(is_source).collect())
        .unwrap_or_default();
    all.sort();
    all.truncate(MOST_SOURCES);
    all
}

/// Whether a command runs guests.
#[derive(Clone, Copy, Default)]
enum Kvm {
    #[default]
    No,
    /// On a host that was measured.
    Measured,
    /// To measure it.
    Bare,
}

/// What a command needs once it is confined.
#[derive(Default)]
struct Needs {
    host: Kvm,
    files: Files,
    calls: Calls,
}

impl Needs {
    /// Of a command that was given `line`, where that is a command of a kernel's.
    fn of_line(command: &Command, line: Option<&Command>) -> Option<Self> {
        let Some(mut needs) = line.and_then(Self::of) else { return Self::of(command) };
        match command {
            Command::Debug(args) => needs.listens(args.listen.folder()),
            Command::Explain(args) => needs.output(&args.output),
            _ => &mut needs,
        };
        Some(needs)
    }

    /// Of a command; `None` for one that is not confined: it runs guests in processes of their own,
    /// which are, or runs none and reads no file.
    fn of(command: &Command) -> Option<Self> {
        let mut needs = Self::default();
        needs.files.read.extend(std::env::current_exe()); // its hash is part of results
        match command {
            Command::List(List::Schemes { image, output, .. } | List::Scenarios { image, output }) => {
                needs.image(image).output(output)
            }
            Command::List(List::Boundaries { guest, output, kernel, .. }) => {
                needs.guest(guest).output(output).kernel(kernel)
            }
            Command::Run(args) => needs.guest(&args.guest).output(&args.how.output),
            Command::Replay(args) => needs.guest(&args.guest).output(&args.how.output),
            Command::Explain(args) => needs.guest(&args.guest).output(&args.output),
            Command::Debug(args) if args.case().is_some() => {
                needs.on(Kvm::Measured).kernel(&args.kernel).listens(args.listen.folder())
            }
            Command::Debug(args) => needs.guest(&args.guest).listens(args.listen.folder()),
            Command::Campaign(args) => {
                needs.guest(&args.guest).output(&args.output).reads([&args.file]).folder(args.units.out.as_ref())
            }
            Command::Bench(args) => {
                needs.guest(&args.guest).output(&args.output).kernel(&args.kernel).reads([kernel_cache()])
            }
            Command::Explore(args) => needs.guest(&args.guest).output(&args.output).writes(args.graph.clone()),
            Command::Necessity(args) => needs.guest(&args.guest).output(&args.output).folder(args.units.out.as_ref()),
            Command::Compare(args) => {
                needs.guest(&args.guest).output(&args.output).reads(args.xen.iter().chain(&args.xen_symbols));
                if args.xen.is_some() { needs.cache(false) } else { &mut needs }
            }
            Command::Merge(args) => needs.output(&args.output).reads(&args.dirs).folder(args.out.as_ref()),
            Command::Report(args) => needs.output(&args.output).reads([&args.dir]),
            Command::Agree(args) => needs.output(&args.output).reads(&args.files),
            Command::Probe(args) if !args.rows.is_empty() => needs.on(Kvm::Bare),
            Command::Probe(args) if !args.compare.is_empty() => needs.output(&args.output).reads(&args.compare),
            Command::Probe(args) if args.model => needs.on(Kvm::Measured).output(&args.output),
            Command::Probe(_) | Command::Doctor(_) => return None,
            Command::Init(_) | Command::Completions(_) | Command::Man(_) => return None,
            Command::Kernel(args) => needs
                .on(Kvm::Measured)
                .reads(args.reads())
                .reads(&args.what.campaign)
                .writes(args.what.files())
                .folder(args.what.units.out.as_ref())
                .cache(args.no_cache),
            Command::Xen(args) => needs
                .on(Kvm::Measured)
                .reads(args.machine.reads())
                .reads(&args.what.campaign)
                .writes(args.what.files())
                .folder(args.what.units.out.as_ref())
                .cache(args.machine.no_cache),
            Command::Linux(args) if args.command.is_some() => match &args.command {
                Some(linux::Command::Explore(args)) => {
                    needs.on(Kvm::Measured).output(&args.output).kernel(&args.kernel)
                }
                Some(linux::Command::Necessity(args)) => {
                    let needs = needs.on(Kvm::Measured).output(&args.output).kernel(&args.kernel);
                    needs.folder(args.units.out.as_ref())
                }
                _ => needs.folder(Some(&machine_cache())),
            },
            Command::Linux(args) => {
                needs
                    .on(Kvm::Measured)
                    .output(&args.output)
                    .kernel(&args.kernel)
                    .reads(&args.what.campaign)
                    .reads(&args.baseline)
                    .folder(args.units.out.as_ref());
                if args.what.campaign.is_some() && args.kernel.kernel.is_none() && args.kernel.from.is_none() {
                    needs.reads([Path::new("/")]) // the campaign names the kernel
                } else {
                    &mut needs
                }
            }
        };
        Some(needs)
    }

    fn on(&mut self, host: Kvm) -> &mut Self {
        self.host = host;
        self
    }

    fn reads(&mut self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> &mut Self {
        self.files.read.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    fn writes(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> &mut Self {
        self.files.write.extend(paths);
        self
    }

    fn folder(&mut self, path: Option<&PathBuf>) -> &mut Self {
        self.files.folders.extend(path.cloned());
        self
    }

    fn output(&mut self, output: &OutputArgs) -> &mut Self {
        self.writes(output.files())
    }

    /// Waits for a connection, at a socket in `folder` or at a port.
    fn listens(&mut self, folder: Option<PathBuf>) -> &mut Self {
        self.calls = Calls::Listening;
        self.files.sockets.extend(folder);
        self
    }

    fn image(&mut self, image: &ImageArgs) -> &mut Self {
        let files = [&image.guest, &image.entry].into_iter().flatten();
        self.reads(files.clone().flat_map(|file| sources_beside(file))).reads(files)
    }

    fn guest(&mut self, guest: &GuestArgs) -> &mut Self {
        self.on(Kvm::Measured).image(&guest.image)
    }

    /// The machines that are kept.
    fn cache(&mut self, without: bool) -> &mut Self {
        let cache = Some(machine_cache()).filter(|_| !without);
        self.files.folders.extend(cache.filter(|dir| std::fs::create_dir_all(dir).is_ok()));
        self
    }

    fn kernel(&mut self, kernel: &KernelArgs) -> &mut Self {
        self.cache(kernel.no_cache);
        let files = [&kernel.kernel, &kernel.initrd, &kernel.symbols, &kernel.from];
        self.reads(files.into_iter().flatten()).writes(kernel.save.clone())
    }

    /// Makes what is to be written, since nothing new can be made elsewhere later.
    fn make(&mut self) -> Result<(), Failure> {
        for dir in &self.files.folders {
            std::fs::create_dir_all(dir).map_err(Failure::writing(dir))?;
        }
        for file in &self.files.write {
            match OpenOptions::new().write(true).create_new(true).open(file) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(Failure::writing(file)(e)),
                _ => {}
            }
        }
        Ok(())
    }
}
