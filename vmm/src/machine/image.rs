//! A guest image: an ELF file, its symbols, and what its manifest declares.

use std::sync::Arc;

use guest::abi;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, elf::ProgramHeader64};

use super::declare::{self, Declarations};
use super::manifest;
use super::symbols::Symbols;

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

/// A parsed image, ready to be loaded.
#[derive(Debug)]
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
}

impl Image {
    /// The built-in micro-kernel.
    pub fn builtin() -> Result<Self, Error> {
        Self::parse(BUILTIN)
    }

    /// Reads an ELF file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let broken = |e: object::read::Error| Error::Elf(e.to_string());
        let header = FileHeader64::<Endianness>::parse(bytes).map_err(broken)?;
        let endian = header.endian().map_err(broken)?;
        check_kind(header, endian)?;
        let headers = header.program_headers(endian, bytes).map_err(broken)?;
        let segments = segments(headers, endian, bytes.len() as u64)?;

        let sections = header.sections(endian, bytes).map_err(broken)?;
        let table = sections.symbols(endian, bytes, elf::SHT_SYMTAB).map_err(broken)?;
        let mut names = Vec::new();
        for symbol in table.iter() {
            let shndx = symbol.st_shndx(endian);
            let kind = symbol.st_type();
            if shndx == elf::SHN_UNDEF || kind == elf::STT_FILE || kind == elf::STT_SECTION {
                continue;
            }
            let name = table.symbol_name(endian, symbol).map_err(broken)?;
            let name = String::from_utf8_lossy(name).into_owned();
            let code = sections
                .section(object::SectionIndex(shndx.0.into()))
                .is_ok_and(|s| s.sh_flags(endian).0 & elf::SHF_EXECINSTR.0 != 0);
            names.push((name, symbol.st_value(endian), symbol.st_size(endian), code));
        }
        let symbols = Symbols::new(names);

        let text = manifest_text(headers, endian, bytes)?.ok_or(Error::NoManifest)?;
        let declared = Declarations::resolve(&manifest::parse(&text)?, &symbols)?;
        let image = Self {
            bytes: bytes.into(),
            hash: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes)),
            entry: header.e_entry(endian),
            segments,
            symbols,
            declared,
        };
        image.check()?;
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

    /// Whether `vaddr` lies in executable code of the image.
    pub fn is_code(&self, vaddr: u64) -> bool {
        self.segments.iter().any(|s| s.exec && vaddr.wrapping_sub(s.vaddr) < s.size)
    }

    /// The image's code from `vaddr` to the end of its segment, as in the file.
    pub fn code_at(&self, vaddr: u64) -> Option<&[u8]> {
        let s = self.segments.iter().find(|s| s.exec && vaddr.wrapping_sub(s.vaddr) < s.file_size)?;
        self.bytes.get((s.offset + (vaddr - s.vaddr)) as usize..(s.offset + s.file_size) as usize)
    }

    /// Checks what needs segments and manifest together.
    fn check(&self) -> Result<(), Error> {
        for (index, s) in self.segments.iter().enumerate() {
            let end = s.paddr + s.size;
            let fail = |what: String| Error::Segment { index, paddr: s.paddr, end, what };
            if s.paddr < abi::IMAGE_MIN_PADDR {
                return Err(fail(format!("begins below {:#x}, where the boot tables are", abi::IMAGE_MIN_PADDR)));
            }
            if end > self.declared.ram {
                return Err(fail(format!(
                    "ends beyond the RAM of {} bytes (see the manifest's `ram`)",
                    self.declared.ram
                )));
            }
            if s.vaddr % 4096 != s.paddr % 4096 {
                return Err(fail("has virtual and physical addresses that differ within a page".into()));
            }
            if self.segments.get(index + 1).is_some_and(|next| next.paddr < end) {
                return Err(fail("overlaps the next one".into()));
            }
        }
        if !self.is_code(self.entry) {
            return Err(Error::Elf(format!("the entry point {:#x} is not in an executable segment", self.entry)));
        }
        for scheme in &self.declared.schemes {
            if let Some(entry) = scheme.entry.filter(|e| !self.is_code(*e)) {
                return Err(Error::Elf(format!("scheme {}: entry={entry:#x} is not code", scheme.name)));
            }
        }
        Ok(())
    }
}

fn check_kind(header: &FileHeader64<Endianness>, endian: Endianness) -> Result<(), Error> {
    let wrong = |found: String| Err(Error::WrongKind { found });
    if !matches!(endian, Endianness::Little) {
        return wrong("big-endian".into());
    }
    match header.e_machine(endian) {
        elf::EM_X86_64 => {}
        other => return wrong(format!("for machine {}", other.0)),
    }
    match header.e_type(endian) {
        elf::ET_EXEC => Ok(()),
        elf::ET_DYN => wrong("position-independent (ET_DYN; link with -no-pie)".into()),
        elf::ET_REL => wrong("a relocatable object (ET_REL; link it first)".into()),
        other => wrong(format!("of ELF type {}", other.0)),
    }
}

fn segments(headers: &[ProgramHeader64<Endianness>], e: Endianness, file: u64) -> Result<Vec<Segment>, Error> {
    let mut out = Vec::new();
    for ph in headers.iter().filter(|ph| ph.p_type(e) == elf::PT_LOAD && ph.p_memsz(e) > 0) {
        let (vaddr, paddr, size) = (ph.p_vaddr(e), ph.p_paddr(e), ph.p_memsz(e));
        let in_file = ph.p_offset(e).checked_add(ph.p_filesz(e)).is_some_and(|end| end <= file);
        if !in_file || ph.p_filesz(e) > size || paddr.checked_add(size).is_none() || vaddr.checked_add(size).is_none() {
            return Err(Error::Segment {
                index: out.len(),
                paddr,
                end: paddr.saturating_add(size),
                what: "reaches beyond the file or the address space".into(),
            });
        }
        out.push(Segment {
            vaddr,
            paddr,
            size,
            offset: ph.p_offset(e),
            file_size: ph.p_filesz(e),
            write: ph.p_flags(e).0 & elf::PF_W.0 != 0,
            exec: ph.p_flags(e).0 & elf::PF_X.0 != 0,
        });
    }
    if out.is_empty() {
        return Err(Error::Elf("no loadable segment".into()));
    }
    out.sort_by_key(|s| s.paddr);
    Ok(out)
}

/// The text of all manifest notes, or `None` where there is none.
fn manifest_text(
    headers: &[ProgramHeader64<Endianness>],
    endian: Endianness,
    bytes: &[u8],
) -> Result<Option<String>, Error> {
    let broken = |e: object::read::Error| Error::Elf(format!("a note: {e}"));
    let mut text: Option<String> = None;
    for header in headers {
        let Some(mut notes) = header.notes(endian, bytes).map_err(broken)? else { continue };
        while let Some(note) = notes.next().map_err(broken)? {
            if note.name() != abi::NOTE_NAME.as_bytes() || note.n_type(endian).0 != abi::NOTE_TYPE_MANIFEST {
                continue;
            }
            let part =
                std::str::from_utf8(note.desc()).map_err(|_| Error::Elf("a manifest note is not UTF-8".into()))?;
            let text = text.get_or_insert_default();
            text.push_str(part);
            text.push('\n');
        }
    }
    Ok(text)
}
