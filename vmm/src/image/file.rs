//! A guest image: an ELF file, its symbols, and what its manifest declares.

use std::collections::BTreeMap;
use std::sync::Arc;

use guest::abi;

use super::declare::{self, Declarations};
use super::manifest::{self, Line};
use super::symbols::{Raw, Symbols};
use super::{check, elf};

/// The micro-kernel that was built with this program.
pub const BUILTIN: &[u8] = include_bytes!(env!("GUEST_ELF"));

/// A loadable part of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address the code runs at.
    pub vaddr: u64,
    /// Guest-physical address it is loaded at.
    pub paddr: u64,
    /// Bytes in memory.
    pub size: u64,
    /// Offset of its bytes in the file.
    pub offset: u64,
    /// Bytes in the file; the rest is zero.
    pub file_size: u64,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub exec: bool,
}

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
    Declaration(#[from] declare::Error),
}

/// What is added to an ELF file when it is read: an entry that was linked into it.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Its names, which win over the file's.
    pub symbols: Vec<Raw>,
    /// Its part of the manifest.
    pub lines: Vec<Line>,
    /// Its DWARF sections, relocated, by name.
    pub dwarf: BTreeMap<String, Vec<u8>>,
}

/// A parsed image, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Arc<[u8]>,
    /// 64-bit hash of the file, as 16 hex digits.
    pub hash: String,
    /// Where execution begins (a virtual address).
    pub entry: u64,
    /// The loadable parts, by ascending physical address.
    pub segments: Vec<Segment>,
    /// Names of addresses.
    pub symbols: Symbols,
    /// What the manifest declares, resolved to addresses.
    pub declared: Declarations,
    /// DWARF of what was linked into it.
    pub(super) dwarf: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// The built-in micro-kernel.
    pub fn builtin() -> Result<Self, Error> {
        Self::parse(BUILTIN)
    }

    /// Reads an ELF file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::assemble(bytes.into(), Added::default())
    }

    /// Reads an ELF file to which something was added.
    pub(super) fn assemble(bytes: Arc<[u8]>, added: Added) -> Result<Self, Error> {
        let file = elf::Elf::read(&bytes)?;
        let mut lines = manifest::parse(&file.manifest()?.ok_or(Error::NoManifest)?)?;
        let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
        hash.update(&bytes);
        // What was linked into it declares, too: the verdict depends on it.
        added.lines.iter().for_each(|line| hash.update(format!("{line:?}").as_bytes()));
        lines.extend(added.lines);
        let symbols = Symbols::new(file.symbols()?).with(added.symbols);
        let declared = Declarations::resolve(&lines, &symbols)?;
        let (entry, segments) = (file.entry(), file.segments()?);
        let image = Self {
            hash: format!("{:016x}", hash.digest()),
            bytes,
            entry,
            segments,
            symbols,
            declared,
            dwarf: added.dwarf,
        };
        check::image(&image)?;
        Ok(image)
    }

    /// The ELF file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The guest-physical address that virtual address `vaddr` of a segment is
    /// loaded at.
    pub fn paddr(&self, vaddr: u64) -> Option<u64> {
        let s = self.segments.iter().find(|s| vaddr.wrapping_sub(s.vaddr) < s.size)?;
        Some(vaddr - s.vaddr + s.paddr)
    }

    /// The same, where that cannot be written.
    pub fn fixed_paddr(&self, vaddr: u64) -> Option<u64> {
        let s = self.segments.iter().find(|s| vaddr.wrapping_sub(s.vaddr) < s.size)?;
        (!s.write).then_some(vaddr - s.vaddr + s.paddr)
    }

    /// Whether `vaddr` lies in executable code of the image.
    pub fn is_code(&self, vaddr: u64) -> bool {
        self.segments.iter().any(|s| s.exec && vaddr.wrapping_sub(s.vaddr) < s.size)
    }

    /// The image's code from `vaddr` to the end of its segment, as in the file.
    pub fn code_at(&self, vaddr: u64) -> Option<&[u8]> {
        let s = self.segments.iter().find(|s| s.exec && vaddr.wrapping_sub(s.vaddr) < s.file_size)?;
        self.bytes.get((s.offset + (vaddr - s.vaddr)) as usize..(s.offset + s.file_size) as usize)
    }
}
