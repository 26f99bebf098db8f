//! Why a campaign cannot be run, or its results not be used.

use std::path::{Path, PathBuf};

/// Why a campaign cannot be run, or its results not be used.
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
    /// The campaign file says something that cannot be.
    #[error("{path}:{line}: {why}")]
    File {
        /// The file's name.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A result folder that cannot be used.
    #[error("{}: {why}", dir.display())]
    Results {
        /// The result folder.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A scheme and scenario could not be run.
    #[error("{scheme} / {scenario}: {why}")]
    Machine {
        /// The scheme's name.
        scheme: String,
        /// The scenario's name.
        scenario: String,
        /// What was said instead.
        why: crate::machine::Error,
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
    /// A schedule of the campaign cannot be carried out.
    #[error("{path}: schedules: {scheme} / {scenario}: {why}")]
    Schedule {
        /// The file's name.
        path: String,
        /// The scheme's name.
        scheme: String,
        /// The scenario's name.
        scenario: String,
        /// The reason.
        why: String,
    },
}

impl Error {
    /// For a file that cannot be read.
    pub(super) fn reading(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |why| Error::Read { path, why }
    }

    /// For a file that cannot be written.
    pub(super) fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |why| Error::Write { path, why }
    }
}
