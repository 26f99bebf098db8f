//! Links an entry, a relocatable object, into the slot that an image declares for it.
//!
//! No linker is needed: code and constants are placed in the slot's bytes of the ELF
//! file, variables in its zeroed memory, relocations are carried out, and the words
//! that the slot declares as hooks get the addresses of what the object defines.

use std::collections::BTreeMap;
use std::ops::Range;

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym, SymbolTable};
use object::{Endianness, SectionIndex};

use super::declare::{FRED, Hook, Slot};
use super::elf::{header, wrong_kind};
use super::error;
use super::file::Image;
use super::manifest::{self, Line, Mode};
use super::read::Added;
use super::symbols::Symbol;

/// Why an object cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no relocatable ELF64 object for x86-64, or a table in it is broken.
    #[error("not a usable object file: {0}")]
    Object(String),
    /// The image has no room for it.
    #[error("the image declares no slot of mode {0} for an entry (see docs/guide/guest-abi.md)")]
    NoSlot(Mode),
    /// What must be there is not.
    #[error("the object defines no global symbol {0:?}, the handler's first instruction")]
    NoEntry(String),
    /// A name that nobody defines.
    #[error("undefined symbol {0:?}: neither the object nor the image has it")]
    Undefined(String),
    /// A name that both define.
    #[error("{0:?} is defined by the object and by the image")]
    Twice(String),
    /// A section that cannot be placed.
    #[error("section {name}: {why}")]
    Section {
        /// The name, as it was given.
        name: String,
        /// The reason.
        why: String,
    },
    /// A relocation that cannot be carried out.
    #[error("section {section}+{offset:#x}: {why}")]
    Relocation {
        /// In which section.
        section: String,
        /// Where in it.
        offset: u64,
        /// The reason.
        why: String,
    },
    /// The object's own notes.
    #[error("the object's manifest: {0}")]
    Manifest(String),
    /// The whole, read again.
    #[error(transparent)]
    Image(#[from] error::Error),
}

type Header = FileHeader64<Endianness>;

/// An object file, taken apart.
struct Object<'a> {
    bytes: &'a [u8],
    endian: Endianness,
    sections: SectionTable<'a, Header>,
    symbols: SymbolTable<'a, Header>,
    /// Addresses of the sections that were placed; DWARF is at 0.
    placed: BTreeMap<usize, u64>,
}

/// Links `object` into `image`.
pub fn link(image: &Image, object: &[u8]) -> Result<Image, Error> {
    let mut object = Object::read(object)?;
    let mut lines = object.manifest()?;
    let scheme = lines.iter().find(|l| l.keyword == "scheme");
    let mode = match scheme.and_then(|l| l.pairs.get("mode")) {
        Some(mode) if mode == Mode::Pv.name() => Mode::Pv,
        _ => Mode::Native,
    };
    let fred = scheme.is_some_and(|l| l.words.iter().skip(1).any(|w| w == FRED));
    if fred && mode != Mode::Pv {
        return Err(Error::Manifest("FRED is played by the VMM: a scheme that says fred has mode=pv".into()));
    }
    let slot = image.declared.slots.iter().find(|s| (s.mode, s.fred) == (mode, fred)).ok_or(Error::NoSlot(mode))?;
    declare(&mut lines, slot)?;

    object.place(slot)?;
    let mut bytes = image.bytes().to_vec();
    let mut dwarf = BTreeMap::new();
    for (&index, &at) in &object.placed {
        let (name, mut data) = object.contents(index)?;
        object.relocate(index, at, &mut data, image)?;
        match at {
            0 => drop(dwarf.insert(name, data)),
            at if data.is_empty() || slot.data.as_ref().is_some_and(|d| d.contains(&at)) => {}
            at => write(&mut bytes, image, at, &data).ok_or_else(|| no_room(&name))?,
        }
    }
    let symbols = object.defined(image)?;
    for (i, Hook { name, word }) in slot.hooks.iter().enumerate() {
        match symbols.iter().find(|s| s.name == *name && s.global) {
            Some(s) => write(&mut bytes, image, *word, &s.addr.to_le_bytes()).ok_or_else(|| no_room(name))?,
            None if i == 0 => return Err(Error::NoEntry(name.clone())),
            None => {}
        }
    }
    let symbols =
        symbols.into_iter().map(|s| Symbol { name: s.name, addr: s.addr, size: s.size, code: s.code }).collect();
    Ok(Image::assemble(bytes.into(), Added { symbols, lines, dwarf })?)
}

fn no_room(name: &str) -> Error {
    Error::Section { name: name.to_owned(), why: "the slot's place is not in the image file".into() }
}

/// Completes what the object says about itself.
fn declare(lines: &mut Vec<Line>, slot: &Slot) -> Result<(), Error> {
    lines.retain(|l| l.keyword != "abi");
    if let Some(other) = lines.iter().find(|l| !["scheme", "scratch", "stack"].contains(&l.keyword.as_str())) {
        return Err(Error::Manifest(format!(
            "an entry declares `scheme`, `scratch` and `stack` only, not `{}`",
            other.keyword
        )));
    }
    if lines.iter().filter(|l| l.keyword == "scheme").count() > 1 {
        return Err(Error::Manifest("an entry is one scheme, and there are several".into()));
    }
    if !lines.iter().any(|l| l.keyword == "scheme") {
        let pairs = [("summary", "the entry that was linked in")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        lines.push(Line { keyword: "scheme".into(), words: vec!["custom".into()], pairs: pairs.into() });
    }
    for line in lines.iter_mut().filter(|l| l.keyword == "scheme") {
        if line.pairs.insert("arg".into(), slot.arg.clone()).is_some() {
            return Err(Error::Manifest("arg= is the slot's, not the entry's".into()));
        }
        line.pairs.entry("entry".into()).or_insert_with(|| slot.hooks[0].name.clone());
        line.pairs.entry("mode".into()).or_insert_with(|| slot.mode.name().to_owned());
    }
    Ok(())
}

/// Writes to the image's file what is at virtual address `at`.
fn write(bytes: &mut [u8], image: &Image, at: u64, data: &[u8]) -> Option<()> {
    let s = image.segments.iter().find(|s| at.wrapping_sub(s.vaddr) < s.file_size)?;
    let (offset, len) = (at - s.vaddr, data.len() as u64);
    if offset.checked_add(len)? > s.file_size {
        return None;
    }
    let start = usize::try_from(s.offset + offset).ok()?;
    bytes.get_mut(start..start + data.len())?.copy_from_slice(data);
    Some(())
}

/// A symbol that the object defines.
struct Defined {
    name: String,
    addr: u64,
    size: u64,
    code: bool,
    global: bool,
}

fn broken(e: object::read::Error) -> Error {
    Error::Object(e.to_string())
}

impl<'a> Object<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, endian) = header(bytes).map_err(Error::Object)?;
        if let Some(found) = wrong_kind(header, endian, elf::ET_REL) {
            return Err(Error::Object(format!("it is {found}; one made by `gcc -c` or `as` is needed")));
        }
        let sections = header.sections(endian, bytes).map_err(broken)?;
        let symbols = sections.symbols(endian, bytes, elf::SHT_SYMTAB).map_err(broken)?;
        Ok(Self { bytes, endian, sections, symbols, placed: BTreeMap::new() })
    }

    fn name(&self, index: usize) -> String {
        let section = self.sections.section(SectionIndex(index));
        let name = section.and_then(|s| self.sections.section_name(self.endian, s));
        name.map_or_else(|_| format!("number {index}"), |n| String::from_utf8_lossy(n).into_owned())
    }

    fn manifest(&self) -> Result<Vec<Line>, Error> {
        let mut text = String::new();
        for section in self.sections.iter() {
            let Some(mut notes) = section.notes(self.endian, self.bytes).map_err(broken)? else { continue };
            while let Some(note) = notes.next().map_err(broken)? {
                let ours = note.name() == guest::abi::NOTE_NAME.as_bytes()
                    && note.n_type(self.endian).0 == guest::abi::NOTE_TYPE_MANIFEST;
                if ours {
                    let part = std::str::from_utf8(note.desc());
                    text.push_str(part.map_err(|_| Error::Manifest("a note is not UTF-8".into()))?);
                    text.push('\n');
                }
            }
        }
        manifest::parse(&text).map_err(|e| Error::Manifest(e.to_string()))
    }

    /// Gives every section that is needed an address: code first, then constants, then
    /// variables.
    fn place(&mut self, slot: &Slot) -> Result<(), Error> {
        let e = self.endian;
        let (mut text, mut data) = (slot.text.clone(), slot.data.clone().unwrap_or(0..0));
        for pass in 0..3 {
            for (index, section) in self.sections.iter().enumerate() {
                let (flags, kind, size) = (section.sh_flags(e).0, section.sh_type(e), section.sh_size(e));
                let name = self.name(index);
                let has = |flag: elf::SectionFlags| flags & flag.0 != 0;
                if !has(elf::SHF_ALLOC) {
                    let dwarf = name.starts_with(".debug_") && kind == elf::SHT_PROGBITS;
                    if pass == 0 && dwarf && !has(elf::SHF_COMPRESSED) {
                        self.placed.insert(index, 0);
                    }
                    continue;
                }
                let unwanted = kind == elf::SHT_NOTE || name.starts_with(".eh_frame") || size == 0;
                let mine = if has(elf::SHF_EXECINSTR) {
                    0
                } else if has(elf::SHF_WRITE) {
                    2
                } else {
                    1
                };
                if unwanted || mine != pass {
                    continue;
                }
                let fail = |why: String| Error::Section { name: name.clone(), why };
                if has(elf::SHF_TLS) {
                    return Err(fail("thread-local variables have no meaning here".into()));
                }
                if pass == 2 && kind != elf::SHT_NOBITS && self.contents(index)?.1.iter().any(|b| *b != 0) {
                    return Err(fail("its variables have initial values other than zero; only .bss has room".into()));
                }
                let room = if pass == 2 { &mut data } else { &mut text };
                let at = take(room, size, section.sh_addralign(e)).ok_or_else(|| {
                    let whole = if pass == 2 { slot.data.clone().unwrap_or(0..0) } else { slot.text.clone() };
                    fail(format!("its {size} bytes do not fit: the slot has {} in all", whole.end - whole.start))
                })?;
                self.placed.insert(index, at);
            }
        }
        Ok(())
    }

    fn contents(&self, index: usize) -> Result<(String, Vec<u8>), Error> {
        let section = self.sections.section(SectionIndex(index)).map_err(broken)?;
        Ok((self.name(index), section.data(self.endian, self.bytes).map_err(broken)?.to_vec()))
    }

    /// Everything that it defines in a section that was placed.
    fn defined(&self, image: &Image) -> Result<Vec<Defined>, Error> {
        let e = self.endian;
        let mut out = Vec::new();
        for symbol in self.symbols.iter() {
            let section = usize::from(symbol.st_shndx(e).0);
            let kind = symbol.st_type();
            let Some(base) = self.placed.get(&section).filter(|at| **at != 0) else { continue };
            if kind == elf::STT_SECTION || kind == elf::STT_FILE {
                continue;
            }
            let name = String::from_utf8_lossy(self.symbols.symbol_name(e, symbol).map_err(broken)?).into_owned();
            let global = symbol.st_bind() != elf::STB_LOCAL;
            if global && image.symbols.get(&name).is_some() {
                return Err(Error::Twice(name));
            }
            let flags = self.sections.section(SectionIndex(section)).map_err(broken)?.sh_flags(e).0;
            let code = flags & elf::SHF_EXECINSTR.0 != 0;
            out.push(Defined {
                name,
                addr: base.wrapping_add(symbol.st_value(e)),
                size: symbol.st_size(e),
                code,
                global,
            });
        }
        Ok(out)
    }

    /// The value of a symbol that a relocation names.
    fn value(&self, symbol: &'a elf::Sym64<Endianness>, image: &Image) -> Result<u64, Error> {
        let (e, shndx) = (self.endian, symbol.st_shndx(self.endian));
        if shndx == elf::SHN_UNDEF {
            let name = String::from_utf8_lossy(self.symbols.symbol_name(e, symbol).map_err(broken)?);
            return match image.symbols.get(&name) {
                Some(s) => Ok(s.addr),
                None => Err(Error::Undefined(name.into_owned())),
            };
        }
        if shndx == elf::SHN_ABS {
            return Ok(symbol.st_value(e));
        }
        match self.placed.get(&usize::from(shndx.0)) {
            Some(base) => Ok(base.wrapping_add(symbol.st_value(e))),
            None if shndx == elf::SHN_COMMON => {
                Err(Error::Object("it has common symbols; compile it with -fno-common".into()))
            }
            None => Err(Error::Section {
                name: self.name(shndx.0.into()),
                why: "it is referred to, but has no place in an entry".into(),
            }),
        }
    }

    fn relocate(&self, index: usize, at: u64, data: &mut [u8], image: &Image) -> Result<(), Error> {
        let e = self.endian;
        for table in self.sections.iter() {
            if usize::try_from(table.sh_info(e)).ok() != Some(index) {
                continue;
            }
            if table.sh_type(e) == elf::SHT_REL {
                return Err(Error::Section {
                    name: self.name(index),
                    why: "it has REL relocations; x86-64 has RELA".into(),
                });
            }
            let Some((entries, _)) = table.rela(e, self.bytes).map_err(broken)? else { continue };
            for r in entries {
                let offset = r.r_offset(e);
                let fail = |why: String| Error::Relocation { section: self.name(index), offset, why };
                let symbol = match r.symbol(e, false) {
                    Some(symbol) => match self.value(self.symbols.symbol(symbol).map_err(broken)?, image) {
                        // DWARF may tell of sections that are empty or left out.
                        Err(_) if at == 0 => continue,
                        value => value?,
                    },
                    None => 0,
                };
                let value = symbol.wrapping_add_signed(r.r_addend(e));
                let place = at.wrapping_add(offset);
                let field = field(r.r_type(e, false), value, place).map_err(fail)?;
                let start = usize::try_from(offset).ok();
                let bytes = start.and_then(|s| data.get_mut(s..s.checked_add(field.len())?));
                bytes.ok_or_else(|| fail("the relocation lies beyond its section".into()))?.copy_from_slice(&field);
            }
        }
        Ok(())
    }
}

/// What a relocation writes (System V ABI for x86-64, table 4.9).
fn field(kind: elf::RelocationType, value: u64, place: u64) -> Result<Vec<u8>, String> {
    let relative = value.wrapping_sub(place);
    let signed = |v: u64| match i32::try_from(v as i64) {
        Ok(v) => Ok(v.to_le_bytes().to_vec()),
        Err(_) => Err(format!("{v:#x} does not fit 32 bits with a sign; compile with -mcmodel=kernel")),
    };
    match kind {
        elf::R_X86_64_NONE => Ok(vec![]),
        elf::R_X86_64_64 => Ok(value.to_le_bytes().to_vec()),
        elf::R_X86_64_PC64 => Ok(relative.to_le_bytes().to_vec()),
        elf::R_X86_64_32S => signed(value),
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => signed(relative),
        elf::R_X86_64_32 => match u32::try_from(value) {
            Ok(v) => Ok(v.to_le_bytes().to_vec()),
            Err(_) => Err(format!("{value:#x} does not fit 32 bits; compile with -mcmodel=kernel")),
        },
        elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
            Err("a reference through the GOT; compile with -fno-pic".into())
        }
        other => Err(format!("relocation type {} is not supported", other.0)),
    }
}

/// Takes `size` bytes aligned to `align` from the room's front, and leaves a byte
/// between, so that what is decoded as code does not run on into constants.
fn take(room: &mut Range<u64>, size: u64, align: u64) -> Option<u64> {
    let align = align.max(1);
    if !align.is_power_of_two() || align > 4096 {
        return None;
    }
    let at = room.start.checked_next_multiple_of(align)?;
    let end = at.checked_add(size).filter(|end| *end <= room.end)?;
    room.start = (end + 1).min(room.end);
    Some(at)
}
