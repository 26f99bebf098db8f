//! A guest image: an ELF file, its symbols, and what its manifest declares.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::declare::Declarations;
use super::elf::Segment;
use super::symbols::{Symbol, Symbols};

/// The micro-kernel that was built with this program.
pub const BUILTIN: &[u8] = include_bytes!(env!("GUEST_ELF"));

/// A parsed image, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) bytes: Arc<[u8]>,
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
    /// Names of what was linked into it.
    pub(super) added: Vec<Symbol>,
    /// DWARF of what was linked into it.
    pub(super) dwarf: BTreeMap<String, Vec<u8>>,
}

impl Image {
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
