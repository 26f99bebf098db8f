//! A kernel that has come up: by its boot, or out of a file.

use std::io::Write;
use std::time::Duration;

use super::error::LabError;
use super::kernel::Kernel;
use super::pc::{About, Error, Pc, Progress, Saved, Snapshot};
use crate::host_id::HostId;
use crate::kvm::Host;

/// The kernel as it came up, which every site and every mutation starts from.
pub struct Running {
    pub(super) host: HostId,
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) pc: Pc,
    pub(super) home: Snapshot,
}

impl Running {
    /// Boots a kernel, for at most `limit` of CPU time.
    pub fn boot(
        host: &Host,
        kernel: Box<dyn Kernel>,
        limit: Duration,
        echo: Option<Box<dyn Write + Send>>,
        progress: Progress,
    ) -> Result<Self, LabError> {
        let mut pc = kernel.load(host, echo)?;
        pc.boot(limit, kernel.comes_up_at(), progress)?;
        pc.end_echo();
        kernel.settle(&mut pc)?;
        Self::new(host, kernel, pc)
    }

    /// Goes on with a kernel that [`Running::save`] wrote down.
    pub fn resume(host: &Host, kernel: Box<dyn Kernel>, saved: Saved) -> Result<Self, LabError> {
        Self::new(host, kernel, Pc::resume(host, saved)?)
    }

    fn new(host: &Host, kernel: Box<dyn Kernel>, mut pc: Pc) -> Result<Self, LabError> {
        kernel.prepare(&mut pc)?;
        let home = pc.snapshot(Vec::new())?;
        Ok(Self { host: host.id().clone(), kernel, pc, home })
    }

    /// The machine in a file's bytes.
    pub fn save(&self, host: &Host, about: About) -> Result<Vec<u8>, Error> {
        self.pc.save(host, &self.home, about)
    }

    /// What help the host needed.
    pub fn assists(&self) -> super::pc::Assists {
        self.pc.assists()
    }
}
