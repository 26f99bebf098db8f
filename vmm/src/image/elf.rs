//! Reads the ELF file of an image. Nothing is trusted: every table is checked
//! against the file before it is used.

use guest::abi;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::{Endianness, SectionIndex};

use super::error::Error;
use super::symbols::Symbol;

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

/// An ELF64 executable for x86-64.
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
    header: &'a FileHeader64<Endianness>,
    endian: Endianness,
    headers: &'a [ProgramHeader64<Endianness>],
}

fn broken(e: object::read::Error) -> Error {
    Error::Elf(e.to_string())
}

/// What an ELF file is, if it is not of type `wanted` for x86-64.
pub(super) fn wrong_kind(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    wanted: elf::FileType,
) -> Option<String> {
    if !matches!(endian, Endianness::Little) {
        return Some("big-endian".into());
    }
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Some(format!("for machine {}", header.e_machine(endian).0));
    }
    match header.e_type(endian) {
        found if found == wanted => None,
        elf::ET_EXEC => Some("an executable (ET_EXEC)".into()),
        elf::ET_DYN => Some("position-independent (ET_DYN; link with -static -no-pie)".into()),
        elf::ET_REL => Some("a relocatable object (ET_REL; link it, or give it to --entry)".into()),
        other => Some(format!("of ELF type {}", other.0)),
    }
}

/// The header of an ELF64 file, or what the file is instead.
pub(super) fn header(bytes: &[u8]) -> Result<(&FileHeader64<Endianness>, Endianness), String> {
    match bytes {
        [0x7f, b'E', b'L', b'F', class, ..] if *class != elf::ELFCLASS64.0 => {
            let class = if *class == elf::ELFCLASS32.0 { "32-bit".to_owned() } else { format!("of class {class}") };
            return Err(format!("the file is a {class} ELF; a 64-bit one is needed"));
        }
        [0x7f, b'E', b'L', b'F', ..] => {}
        [] => return Err("the file is empty".into()),
        _ => return Err("the file does not begin with the ELF magic".into()),
    }
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(|e| e.to_string())?;
    Ok((header, header.endian().map_err(|e| e.to_string())?))
}

impl<'a> Elf<'a> {
    /// Checks what kind of file it is.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, endian) = header(bytes).map_err(Error::Elf)?;
        if let Some(found) = wrong_kind(header, endian, elf::ET_EXEC) {
            return Err(Error::WrongKind { found });
        }
        let headers = header.program_headers(endian, bytes).map_err(broken)?;
        Ok(Self { bytes, header, endian, headers })
    }

    /// Where execution begins.
    pub fn entry(&self) -> u64 {
        self.header.e_entry(self.endian)
    }

    fn sections(&self) -> Result<SectionTable<'a, FileHeader64<Endianness>>, Error> {
        self.header.sections(self.endian, self.bytes).map_err(broken)
    }

    /// All names of addresses.
    pub fn symbols(&self) -> Result<Vec<Symbol>, Error> {
        let e = self.endian;
        let sections = self.sections()?;
        let table = sections.symbols(e, self.bytes, elf::SHT_SYMTAB).map_err(broken)?;
        let mut names = Vec::new();
        for symbol in table.iter() {
            let shndx = symbol.st_shndx(e);
            let kind = symbol.st_type();
            if shndx == elf::SHN_UNDEF || kind == elf::STT_FILE || kind == elf::STT_SECTION {
                continue;
            }
            let name = table.symbol_name(e, symbol).map_err(broken)?;
            let name = String::from_utf8_lossy(name).into_owned();
            let code = sections
                .section(SectionIndex(shndx.0.into()))
                .is_ok_and(|s| s.sh_flags(e).0 & elf::SHF_EXECINSTR.0 != 0);
            names.push(Symbol { name, addr: symbol.st_value(e), size: symbol.st_size(e), code });
        }
        Ok(names)
    }

    /// The bytes of the section called `name`; none where it is compressed.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        let (_, section) = self.sections().ok()?.section_by_name(self.endian, name.as_bytes())?;
        let compressed = section.sh_flags(self.endian).0 & elf::SHF_COMPRESSED.0 != 0;
        if compressed { None } else { section.data(self.endian, self.bytes).ok() }
    }

    /// The loadable parts, by physical address.
    pub fn segments(&self) -> Result<Vec<Segment>, Error> {
        let (e, file) = (self.endian, self.bytes.len() as u64);
        let mut out = Vec::new();
        for ph in self.headers.iter().filter(|ph| ph.p_type(e) == elf::PT_LOAD && ph.p_memsz(e) > 0) {
            let (vaddr, paddr, size) = (ph.p_vaddr(e), ph.p_paddr(e), ph.p_memsz(e));
            let fail = |what: &str| Error::Segment {
                index: out.len(),
                paddr,
                end: paddr.saturating_add(size),
                what: what.into(),
            };
            if ph.p_offset(e).checked_add(ph.p_filesz(e)).is_none_or(|end| end > file) {
                return Err(fail("has bytes beyond the end of the file"));
            }
            if ph.p_filesz(e) > size {
                return Err(fail("has more bytes in the file than in memory"));
            }
            if paddr.checked_add(size).is_none() || vaddr.checked_add(size).is_none() {
                return Err(fail("reaches beyond the address space"));
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
    pub fn manifest(&self) -> Result<Option<String>, Error> {
        let broken = |e: object::read::Error| Error::Elf(format!("a note: {e}"));
        let mut text: Option<String> = None;
        for header in self.headers {
            let Some(mut notes) = header.notes(self.endian, self.bytes).map_err(broken)? else { continue };
            while let Some(note) = notes.next().map_err(broken)? {
                if note.name() != abi::NOTE_NAME.as_bytes() || note.n_type(self.endian).0 != abi::NOTE_TYPE_MANIFEST {
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
}
