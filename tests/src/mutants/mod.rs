//! Mutants: entry paths that nobody has thought of, each searched with all reductions and with
//! none. Where the two do not say the same, one of them is wrong.
//!
//! There are two kinds. Of a scheme, one instruction is removed or changed ([`changed`]). And small
//! guests are made from a grammar that hides bits in odd places and reads them in odd ways
//! ([`entries`]). A number says which mutant it is, so that one can be made again.

mod build;
mod entries;
mod hides;
mod judge;
mod looks;
mod work;

use std::sync::Arc;

use vmm::image::declare::{Scenario, Scheme};
use vmm::image::target::{Target, find_scheme};
use vmm::image::{Guest, Image};

pub use build::{Made, Toolchain};
pub use entries::entry;
pub use judge::{Bounds, Judge, Judged, Outcome};
pub use vmm::image::changes::Change;

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

/// Every change of a scheme.
pub fn changes(image: &Image, scheme: &str) -> Result<Vec<Change>, Error> {
    Ok(vmm::image::changes::changes(image, find_scheme(&image.declared, scheme)?))
}

/// A scheme with one of its instructions changed.
pub fn changed(change: &Change, image: &Image, scheme: &str, scenario: &str) -> Result<Mutant, Error> {
    let guest = Guest::new(change.of(image)?);
    let target = Target::find(&guest.image.declared, scheme, scenario, None)?;
    let name = format!("{scheme} / {scenario}: {change}");
    Ok(Mutant { name, guest, scheme: target.scheme, scenario: target.scenario, text: String::new() })
}
