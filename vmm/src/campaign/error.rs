//! Why a campaign cannot be run, or its results not be used.

use crate::folder;

/// Why a campaign cannot be run, or its results not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, or the result folder.
    #[error(transparent)]
    Folder(#[from] folder::Error),
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
