//! From an ELF file to an image: its tables are read, what its manifest declares is resolved, and
//! the whole is checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check;
use super::declare::Declarations;
use super::elf::Elf;
use super::error::Error;
use super::file::{BUILTIN, Image};
use super::manifest::{self, Line};
use super::symbols::{Symbol, Symbols};

/// What is added to an ELF file when it is read: an entry that was linked into it.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Its names, which win over the file's.
    pub symbols: Vec<Symbol>,
    /// Its part of the manifest.
    pub lines: Vec<Line>,
    /// Its DWARF sections, relocated, by name.
    pub dwarf: BTreeMap<String, Vec<u8>>,
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
        let file = Elf::read(&bytes)?;
        let mut lines = manifest::parse(&file.manifest()?.ok_or(Error::NoManifest)?)?;
        let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
        hash.update(&bytes);
        // What was linked into it declares, too: the verdict depends on it.
        added.lines.iter().for_each(|line| hash.update(format!("{line:?}").as_bytes()));
        lines.extend(added.lines);
        let symbols = Symbols::new(file.symbols()?).with(added.symbols.clone());
        let declared = Declarations::resolve(&lines, &symbols)?;
        let (entry, segments) = (file.entry(), file.segments()?);
        let image = Self {
            hash: format!("{:016x}", hash.digest()),
            bytes,
            entry,
            segments,
            symbols,
            declared,
            added: added.symbols,
            dwarf: added.dwarf,
        };
        check::image(&image)?;
        Ok(image)
    }
}
