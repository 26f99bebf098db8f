//! A kernel that runs to its end by itself: a test of a kernel's, which writes what it came to to the
//! exit port.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use super::error::LabError;
use super::kernel::Kernel;
use super::pc::{Assists, Progress};
use crate::host_id::HostId;
use crate::kvm::Host;

/// How it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// Where it ran.
    pub host: HostId,
    /// Its file, as it was named.
    pub file: String,
    /// The image's hash.
    pub image: String,
    /// What help the host needed.
    pub assists: Assists,
    /// What it wrote to the exit port: 0 where all is well.
    pub exit: u32,
    /// What it wrote to the serial line.
    pub console: String,
}

/// Runs a kernel until it writes to the exit port, for at most `limit` of CPU time.
pub fn run_to_end(
    host: &Host,
    kernel: &dyn Kernel,
    (file, image): (String, String),
    limit: Duration,
    echo: Option<Box<dyn Write + Send>>,
    progress: Progress,
) -> Result<Ended, LabError> {
    let mut pc = kernel.load(host, echo)?;
    let exit = pc.run_to_exit(limit, progress)?;
    Ok(Ended { host: host.id().clone(), file, image, assists: pc.assists(), exit, console: pc.console(0) })
}
