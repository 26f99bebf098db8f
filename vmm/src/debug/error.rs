//! What can go wrong while a run is debugged.

use crate::inject::Kind;
use crate::kernels::LabError;
use crate::machine;

/// Why a run cannot be debugged any further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed, or this KVM did.
    #[error(transparent)]
    Machine(#[from] machine::Error),
    /// The machine with the kernel failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// It could not begin anew after it failed.
    #[error("the run has failed before, and cannot go on")]
    Spent,
    /// The run was not the same when it was executed again.
    #[error(
        "the run is not the same twice: after move {after} it was at {was}, and now it is at {is}. Code that reads \
         time or randomness cannot be debugged backwards"
    )]
    Diverged {
        /// Moves since *ready*.
        after: usize,
        /// Where it stood when it was recorded.
        was: String,
        /// Where it stands now.
        is: String,
    },
    /// An event that a debugged run cannot have.
    #[error("{0}@…: a real kernel can have NMIs, unmasked NMIs and faults only")]
    NotHere(Kind),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address, as it was given.
        address: String,
        /// Why not.
        why: std::io::Error,
    },
    /// What is said to gdb, or by it, is not understood.
    #[error("the connection to gdb: {0}")]
    Connection(String),
}
