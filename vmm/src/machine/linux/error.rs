//! What can be wrong with a kernel, or with a host that is to run it.

use std::path::PathBuf;

use crate::kvm;

/// Why a Linux kernel cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the host says.
        why: std::io::Error,
    },
    /// The kernel file is not one.
    #[error("bad kernel image: {0}")]
    Image(String),
    /// The symbols that the lab needs are not there.
    #[error("no symbols: {0}")]
    Symbols(String),
    /// RAM is too small.
    #[error("the guest's {ram} MiB of RAM are too small: {what}")]
    Ram {
        /// MiB of RAM.
        ram: u64,
        /// What does not fit.
        what: String,
    },
    /// The kernel did not get to where the lab waited for it.
    #[error("the kernel did not come up: {why}\nlast lines of its console:\n{console}")]
    Boot {
        /// What happened instead.
        why: String,
        /// The console's end.
        console: String,
    },
    /// The host cannot do it.
    #[error("this host cannot run it: {0}")]
    Host(String),
    /// KVM failed.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
}

impl Error {
    /// The exit code of `sysexits.h`: 66 no input, 65 bad data, 69 a host that cannot.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::File { .. } => 66,
            Error::Image(_) | Error::Symbols(_) | Error::Ram { .. } | Error::Boot { .. } => 65,
            Error::Host(_) | Error::Kvm(_) => 69,
        }
    }
}
