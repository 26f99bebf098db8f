//! Mutants: entry paths that nobody has thought of, each searched with all reductions and with
//! none. Where the two do not say the same, one of them is wrong.
//!
//! There are two kinds. Of a scheme, one instruction is removed or changed ([`changes`]). And small
//! guests are made from a grammar that hides bits in odd places and reads them in odd ways
//! ([`entries`]). A number says which mutant it is, so that one can be made again.

mod build;
mod changes;
mod entries;
mod hides;
mod judge;
mod looks;
mod work;

use std::sync::Arc;

use vmm::image::Guest;
use vmm::image::declare::{Scenario, Scheme};

pub use build::{Made, Toolchain};
pub use changes::{Change, changes};
pub use entries::entry;
pub use judge::{Bounds, Judge, Judged, Outcome};

/// Something to be searched.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// What it is, and how to make it again.
    pub name: String,
    /// The image.
    pub guest: Arc<Guest>,
    /// How it enters and leaves an NMI.
    pub scheme: Scheme,
    /// What it does meanwhile.
    pub scenario: Scenario,
    /// Assembly text, where it was made from one.
    pub text: String,
}

/// Why a mutant could not be made or judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The assembler or the linker failed.
    #[error("{tool} failed: {message}")]
    Tool {
        /// Which program.
        tool: &'static str,
        /// What it wrote.
        message: String,
    },
    /// A file could not be read or written, or a program not be started.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The image is not one.
    #[error(transparent)]
    Image(#[from] vmm::image::error::Error),
    /// It has no such scheme or scenario.
    #[error(transparent)]
    Target(#[from] vmm::image::target::TargetError),
}
