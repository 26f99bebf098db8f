//! Has a kernel come up, whichever it is: from its image, or from what was kept when it did before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use indicatif::ProgressDrawTarget;

use super::failure::Failure;
use super::input;
use super::progress::bar;
use crate::kernels::pc::{About, Error, KernelSymbols, Progress, Saved};
use crate::kernels::{Kernel, KernelInfo, Lab, LabError, Running, Start, cache, check};
use crate::kvm::{Host, interrupt_after};
use crate::report::plain;

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
    pub fn check(&self, kernel: &dyn Kernel, symbols: &KernelSymbols) -> Result<(), LabError> {
        // Where one of several sites is not there, the others are swept.
        let sites = self.sites.iter().map(|site| check::site(site, kernel, symbols));
        let wrong: Vec<LabError> = sites.filter_map(Result::err).collect();
        let all_wrong = wrong.len() == self.sites.len();
        if let Some(why) = wrong.into_iter().next().filter(|_| all_wrong) {
            return Err(why);
        }
        if let Some(text) = &self.schedule {
            check::schedule(text, symbols)?;
        }
        for place in self.faults.iter().filter(|place| *place != "auto") {
            check::fault(place, symbols)?;
        }
        self.mutations.iter().flatten().try_for_each(|m| check::mutation(m, symbols).map(|_| ()))
    }

    /// A lab with a kernel that has come up. It goes to where a schedule starts, or to the default
    /// site where no sites are named.
    pub fn lab(&self, running: Running) -> Result<Lab, LabError> {
        log::info!("help for this host: {}", running.assists());
        let mut lab = Lab::new(running)?;
        if self.sites.is_empty() {
            lab.go(&self.mutations.first().cloned().unwrap_or_default(), self.start())?;
        }
        Ok(lab)
    }
}

/// A kernel that has come up.
pub struct Booted {
    pub lab: Lab,
    pub info: KernelInfo,
    pub host: Host,
}

/// How a kernel's boot is waited for, and what becomes of the machine that came up.
pub struct Boot<'a> {
    /// CPU time that it may take.
    pub limit: Duration,
    /// Whether its console is shown meanwhile.
    pub console: bool,
    /// A file to save the machine to.
    pub save: Option<&'a Path>,
    /// Whether neither a machine that was kept is used, nor this one kept.
    pub no_cache: bool,
    /// Set from outside to give up.
    pub stop: &'a AtomicBool,
}

impl Boot<'_> {
    /// Has a kernel come up; out of the cache where one with this key did before.
    pub fn up(&self, host: &Host, kernel: Box<dyn Kernel>, about: About) -> Result<Running, Failure> {
        let kept = cache::cached(&about.key);
        if !self.no_cache && self.save.is_none() && kept.exists() {
            let saved = saved(&kept)?;
            log::info!("{} came up before: {}", about.file, kept.display());
            return Ok(Running::resume(host, kernel, saved)?);
        }
        let running = self.wait_for(host, kernel)?;
        let to = self.save.map(Path::to_owned).or_else(|| (!self.no_cache).then_some(kept));
        if let Some(to) = to {
            let bytes = running.save(host, about).map_err(LabError::from)?;
            let written = match self.save {
                // The sandbox lets no file be made beside it.
                Some(to) => cache::overwrite(to, &bytes),
                None => cache::write(&to, &bytes),
            };
            match (written, self.save) {
                (Err(why), Some(_)) => return Err(LabError::from(why).into()),
                // Without a cache it boots each time.
                (Err(why), None) => log::warn!("the machine is not kept: {why}"),
                (Ok(()), _) => log::info!("the machine is kept in {}", to.display()),
            }
        }
        Ok(running)
    }

    fn wait_for(&self, host: &Host, kernel: Box<dyn Kernel>) -> Result<Running, Failure> {
        let limit = self.limit;
        waited(self.console, self.stop, |echo, progress| Running::boot(host, kernel, limit, echo, progress))
    }
}

/// Where a console is copied to.
type Echo = Option<Box<dyn std::io::Write + Send>>;

/// Has a kernel run, and shows how that goes on: at a terminal always, else every ten seconds.
/// With `console`, its console is shown instead.
pub fn waited<T>(
    console: bool,
    stop: &AtomicBool,
    run: impl FnOnce(Echo, Progress) -> Result<T, LabError>,
) -> Result<T, Failure> {
    let bar = bar("{spinner} {elapsed} · boot: waiting for {wide_msg}");
    let echo = console.then(|| Box::new(std::io::stderr()) as Box<dyn std::io::Write + Send>);
    if console {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let mut progress = |waits: &str, line: &str| {
        let message = if line.is_empty() { waits.to_owned() } else { format!("{waits} · {}", plain(line)) };
        bar.set_message(message);
        !stop.load(Relaxed)
    };
    let ran = run(echo, &mut progress)?;
    bar.finish_and_clear();
    log::info!("it took {:.1?}", bar.elapsed());
    Ok(ran)
}

/// While a kernel boots this is also how often a busy CPU gets its timer's interrupts.
pub fn look_in() {
    interrupt_after(Duration::from_millis(20));
}

/// Reads a saved machine.
pub fn saved(path: &Path) -> Result<Saved, Failure> {
    let saved = cache::read(path).and_then(|bytes| Saved::read(&bytes));
    saved.map_err(|why| match why {
        why @ Error::File { .. } => LabError::from(why).into(),
        why => Failure::Input {
            name: path.display().to_string(),
            why: format!("{why} (`vmm linux cache clear` removes what is kept)"),
        },
    })
}

/// A file that is not what it should be.
pub fn bad(file: &Path, why: Error) -> Failure {
    Failure::Image { name: file.display().to_string(), why: why.to_string() }
}

/// A file's bytes.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = input::bytes(path, input::MOST_KERNEL).map_err(|why| Error::File { path: path.to_owned(), why });
    Ok(read.map_err(LabError::from)?)
}

/// An image's hash, as results name it.
pub fn hash(image: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(image))
}

/// The name of a file that an option may name.
pub fn shown(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}
