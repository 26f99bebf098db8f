//! What was opened for a command before it was confined.

use std::path::Path;
use std::time::Instant;

use super::failure::Failure;
use super::host;
use crate::kvm::Host;
use crate::sandbox::{self, Files};

/// What was opened for a command before it was confined.
pub struct Opened {
    /// Whether `--no-sandbox` was given.
    pub bare: bool,
    /// Where the command runs guests.
    pub host: Option<Result<Host, Failure>>,
    /// What the sandbox leaves; `None` without one.
    pub files: Option<Files>,
    /// One call to KVM without and with the sandbox, in nanoseconds.
    pub call_ns: (u64, u64),
}

impl Opened {
    /// The host's KVM.
    pub fn host(self) -> Result<Host, Failure> {
        self.host.unwrap_or_else(|| host::open(self.bare))
    }

    /// What the sandbox adds to each call to KVM, in nanoseconds; `None` without a sandbox.
    pub fn cost_ns(&self) -> Option<u64> {
        self.files.as_ref().map(|_| self.call_ns.1.saturating_sub(self.call_ns.0))
    }

    /// A command that could read any file, since a file says which one, now reads this one only.
    pub fn reads_only(&mut self, file: &Path) -> Result<(), Failure> {
        let Some(files) = &mut self.files else { return Ok(()) };
        files.read.retain(|path| path != Path::new("/"));
        files.read.push(file.to_owned());
        Ok(sandbox::narrow(files)?)
    }
}

/// What a call that does nothing in KVM takes: the best of some, as the rest is noise.
pub fn call_ns(host: Option<&Result<Host, Failure>>) -> u64 {
    const CALLS: u32 = 32;
    let Some(Ok(host)) = host else { return 0 };
    let best = (0..8).map(|_| {
        let begin = Instant::now();
        (0..CALLS).for_each(|_| host.call());
        begin.elapsed() / CALLS
    });
    best.min().map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
