//! What can be wrong with a kernel, or with a host that is to run it.

use std::path::PathBuf;

use crate::kvm;

/// Why a Linux kernel cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// The file or folder, as it was given.
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
    /// RAM is too small, or too large for this machine.
    #[error("{ram} MiB of RAM will not do: {what}")]
    Ram {
        /// MiB of RAM.
        ram: u64,
        /// What does not fit.
        what: String,
    },
    /// Guest memory that a judgement needs is not mapped.
    #[error("{what} at {addr:#x} cannot be read: the kernel does not map it")]
    Unreadable {
        /// What was to be read.
        what: &'static str,
        /// Its virtual address.
        addr: u64,
    },
    /// A saved machine cannot be used.
    #[error("saved machine: {0}")]
    Saved(String),
    /// The kernel did not get to where the lab waited for it.
    #[error("the kernel did not come up: {why}\nlast lines of its console:\n{console}")]
    Boot {
        /// What happened instead.
        why: String,
        /// The console's end.
        console: String,
    },
    /// The boot was interrupted from outside.
    #[error("interrupted while the kernel booted, so there are no results")]
    Interrupted,
    /// This host's KVM lacks what a judgement needs.
    #[error("{0}")]
    Host(&'static str),
    /// KVM failed.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
}

impl Error {
    /// The exit code: 65 for a bad kernel, 69 for a host that cannot, 75 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::File { .. }
            | Error::Image(_)
            | Error::Symbols(_)
            | Error::Ram { .. }
            | Error::Boot { .. }
            | Error::Saved(_)
            | Error::Unreadable { .. } => 65,
            Error::Kvm(_) | Error::Host(_) => 69,
            Error::Interrupted => 75,
        }
    }
}
