//! Why a result folder cannot be used, or filled.

use std::path::{Path, PathBuf};

/// Why a result folder cannot be used, or filled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    Read {
        /// The file or folder, as it was given.
        path: PathBuf,
        /// What was said instead.
        why: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {why}", path.display())]
    Write {
        /// The file or folder, as it was given.
        path: PathBuf,
        /// What was said instead.
        why: std::io::Error,
    },
    /// A result folder that cannot be used.
    #[error("{}: {why}", dir.display())]
    Results {
        /// The result folder.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A thread could not be started.
    #[error("thread {number} of {jobs} could not be started ({why}); ask for fewer with --jobs")]
    Thread {
        /// Which, from 1.
        number: usize,
        /// How many were to be.
        jobs: usize,
        /// Why not.
        why: std::io::Error,
    },
}

impl Error {
    /// For a file that cannot be read.
    pub fn reading(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |why| Error::Read { path, why }
    }

    /// For a file that cannot be written.
    pub fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |why| Error::Write { path, why }
    }
}
