//! Why an image is refused.

use guest::abi;

use super::{manifest, resolver};

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no ELF64 for x86-64, or a table in it is broken.
    #[error("not a usable ELF image: {0}")]
    Elf(String),
    /// Wrong machine or file type.
    #[error("the image is {found}; a static (ET_EXEC) ELF64 for x86-64 is needed")]
    WrongKind {
        /// What it is instead.
        found: String,
    },
    /// A segment lies where it must not.
    #[error("segment {index} at physical {paddr:#x}..{end:#x} {what}")]
    Segment {
        /// Which, in the order of the program headers' `PT_LOAD`s.
        index: usize,
        /// Where it begins.
        paddr: u64,
        /// Where it ends.
        end: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A declared address is not what it must be.
    #[error("manifest: {what} is {addr:#x}, which {why}")]
    Place {
        /// Which declaration.
        what: String,
        /// What it resolves to.
        addr: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No manifest note.
    #[error(
        "the image has no manifest: no ELF note with owner {:?} and type {} was found (is its section \
         allocated and in a PT_NOTE segment?)",
        abi::NOTE_NAME,
        abi::NOTE_TYPE_MANIFEST
    )]
    NoManifest,
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// The manifest says something that does not hold together.
    #[error(transparent)]
    Declaration(#[from] resolver::Error),
}
