//! Multiboot, version 1 (www.gnu.org/software/grub/manual/multiboot/multiboot.html): a kernel is
//! loaded where it says, and started in flat 32-bit protected mode, with a structure that
//! describes RAM, its command line and its modules.

use object::elf::{EM_386, EM_X86_64, FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

use super::Error;
use super::layout::{BIOS_KIB, BIOS_SEGMENT, CMDLINE, CMDLINE_MAX, GDT, HIGH, LOW_END, MULTIBOOT};
use crate::cpu::control::{CR0_ET, CR0_PE};
use crate::cpu::rflags;
use crate::kvm::Vm;

/// What the kernel finds in EAX.
const IN_EAX: u64 = 0x2bad_b002;
/// What a header begins with.
const MAGIC: u32 = 0x1bad_b002;
/// A header lies in so many bytes from the file's beginning.
const SEARCHED: usize = 8192;
/// Flags of a header that a loader must know: pages for modules, memory, video.
const KNOWN: u32 = 0b111;
/// The header has addresses of its own, which count instead of the ELF's.
const HAS_ADDRESSES: u32 = 1 << 16;
/// Flags of the information: memory, command line, modules, memory map, loader's name.
const TOLD: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
/// Most modules that there is room for.
const MOST_MODULES: usize = 8;

/// A file that is loaded beside the kernel.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its command line.
    pub words: String,
}

/// A part of the image, and where it goes.
struct Part<'a> {
    at: u64,
    bytes: &'a [u8],
    /// Bytes in memory; those beyond the file's are zero.
    size: u64,
}

/// Puts a kernel and its modules into RAM, and the vCPU to its entry point.
pub fn load(vm: &mut Vm, image: &[u8], cmdline: &str, modules: &[Module]) -> Result<(), Error> {
    let (parts, entry) = parts(image)?;
    let ram = vm.ram().len();
    let too_small = |what: String| Error::Ram { ram: ram >> 20, what };
    let mut end = HIGH;
    for part in &parts {
        let stop = part.at.checked_add(part.size.max(part.bytes.len() as u64)).filter(|stop| *stop <= ram);
        end = end.max(stop.ok_or_else(|| too_small(format!("a part of the kernel is loaded at {:#x}", part.at)))?);
    }
    if modules.len() > MOST_MODULES || cmdline.len() >= CMDLINE_MAX {
        return Err(Error::Image(format!("at most {MOST_MODULES} modules and {CMDLINE_MAX} bytes of command line")));
    }
    for part in &parts {
        let at = part.at as usize;
        vm.ram_mut()[at..at + part.bytes.len()].copy_from_slice(part.bytes);
    }
    let mut info = Info::new(ram);
    for module in modules {
        let at = end.next_multiple_of(0x1000);
        let stop = at + module.bytes.len() as u64;
        // Behind them a kernel has its first memory.
        if stop + (1 << 20) > ram {
            return Err(too_small("kernel and modules do not fit".into()));
        }
        vm.ram_mut()[at as usize..stop as usize].copy_from_slice(&module.bytes);
        info.add_module(at, stop, &module.words)?;
        end = stop;
    }
    let bytes = vm.ram_mut();
    let mut put = |at: u64, what: &[u8]| bytes[at as usize..at as usize + what.len()].copy_from_slice(what);
    put(MULTIBOOT, &info.bytes);
    put(CMDLINE, cmdline.as_bytes());
    put(BIOS_SEGMENT, &((LOW_END >> 4) as u16).to_le_bytes());
    put(BIOS_KIB, &((LOW_END >> 10) as u16).to_le_bytes());
    const FLAT_32: [u64; 4] = [0, 0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
    put(GDT, FLAT_32.map(u64::to_le_bytes).as_flattened());
    set_registers(vm, entry)
}

/// The 32-bit words at multiples of 4.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// What of the image goes where, and where it starts.
fn parts(image: &[u8]) -> Result<(Vec<Part<'_>>, u64), Error> {
    let bad = |why: &str| Error::Image(why.to_owned());
    let header_at = |at: usize| match [0, 4, 8].map(|i| word(image, at + i)) {
        [Some(MAGIC), Some(flags), Some(sum)] if MAGIC.wrapping_add(flags).wrapping_add(sum) == 0 => Some((at, flags)),
        _ => None,
    };
    let found = (0..SEARCHED.min(image.len())).step_by(4).find_map(header_at);
    let (header, flags) = found.ok_or_else(|| bad("it has no multiboot 1 header in its first 8 KiB"))?;
    if flags & 0xffff & !KNOWN != 0 {
        return Err(Error::Image(format!("its multiboot header asks for what is not known here (flags {flags:#x})")));
    }
    if flags & HAS_ADDRESSES == 0 {
        return match FileKind::parse(image) {
            Ok(FileKind::Elf32) => elf_parts::<FileHeader32<Endianness>>(image),
            Ok(FileKind::Elf64) => elf_parts::<FileHeader64<Endianness>>(image),
            _ => Err(bad("it is no ELF file, and its multiboot header has no addresses")),
        };
    }
    let field = |i: usize| word(image, header + 12 + 4 * i).map(u64::from);
    let fields = [0, 1, 2, 3, 4].map(field);
    let [Some(header_at), Some(start), Some(load_end), Some(bss_end), Some(entry)] = fields else {
        return Err(bad("its multiboot header is cut short"));
    };
    let from = (header as u64 + start).checked_sub(header_at).ok_or_else(|| bad("its load address is wrong"))?;
    let rest = image.get(from as usize..).ok_or_else(|| bad("its load address is wrong"))?;
    let bytes = match load_end {
        0 => Some(rest),
        end => end.checked_sub(start).and_then(|len| rest.get(..len as usize)),
    };
    let bytes = bytes.ok_or_else(|| bad("its load end address is wrong"))?;
    Ok((vec![Part { at: start, bytes, size: bss_end.saturating_sub(start) }], entry))
}

fn elf_parts<H: FileHeader<Endian = Endianness>>(image: &[u8]) -> Result<(Vec<Part<'_>>, u64), Error> {
    let bad = |e: object::Error| Error::Image(format!("it is no usable ELF file: {e}"));
    let header = H::parse(image).map_err(bad)?;
    let endian = header.endian().map_err(bad)?;
    if ![EM_386, EM_X86_64].contains(&header.e_machine(endian)) {
        return Err(Error::Image("it is an ELF file for another machine than x86".into()));
    }
    let mut out = Vec::new();
    for segment in header.program_headers(endian, image).map_err(bad)? {
        if segment.p_type(endian) != PT_LOAD {
            continue;
        }
        let bytes = segment.data(endian, image).map_err(|()| Error::Image("a segment is cut short".into()))?;
        out.push(Part { at: segment.p_paddr(endian).into(), bytes, size: segment.p_memsz(endian).into() });
    }
    Ok((out, header.e_entry(endian).into()))
}

/// The information structure and what follows it.
struct Info {
    bytes: Vec<u8>,
    modules: u32,
}

impl Info {
    const MAP: usize = 0x80;
    const MODULES: usize = 0x100;
    const STRINGS: usize = Self::MODULES + 16 * MOST_MODULES;

    fn new(ram: u64) -> Self {
        let mut info = Self { bytes: vec![0; Self::STRINGS], modules: 0 };
        // Low RAM, the BIOS's ROM, high RAM; 1 is usable, 2 is not.
        let map = [(0, LOW_END, 1), (0xf_0000, 0x1_0000, 2), (HIGH, ram - HIGH, 1u32)];
        for (i, (start, len, kind)) in map.into_iter().enumerate() {
            let at = Self::MAP + 24 * i;
            info.put(at, 20);
            info.bytes[at + 4..at + 12].copy_from_slice(&u64::to_le_bytes(start));
            info.bytes[at + 12..at + 20].copy_from_slice(&u64::to_le_bytes(len));
            info.put(at + 20, kind);
        }
        let here = |offset: usize| MULTIBOOT as u32 + offset as u32;
        let name = info.string("nmi-lab");
        for (at, value) in [
            (0, TOLD),
            (4, (LOW_END >> 10) as u32),
            (8, ((ram - HIGH) >> 10) as u32),
            (16, CMDLINE as u32),
            (24, here(Self::MODULES)),
            (44, 24 * map.len() as u32),
            (48, here(Self::MAP)),
            (64, name),
        ] {
            info.put(at, value);
        }
        info
    }

    fn put(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Appends a string; returns its address.
    fn string(&mut self, text: &str) -> u32 {
        let at = MULTIBOOT as u32 + self.bytes.len() as u32;
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        at
    }

    fn add_module(&mut self, start: u64, end: u64, words: &str) -> Result<(), Error> {
        if words.len() >= CMDLINE_MAX {
            return Err(Error::Image(format!("a module's words have {} bytes", words.len())));
        }
        let words = self.string(words);
        let at = Self::MODULES + 16 * self.modules as usize;
        for (i, value) in [start as u32, end as u32, words].into_iter().enumerate() {
            self.put(at + 4 * i, value);
        }
        self.modules += 1;
        self.put(20, self.modules);
        Ok(())
    }
}

/// The state that the specification names (3.2).
fn set_registers(vm: &mut Vm, entry: u64) -> Result<(), Error> {
    let segment = |selector: u16, type_: u8| crate::cpu::Segment {
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let state = vm.state_mut();
    let sregs = &mut state.sregs;
    sregs.cs = segment(0x10, 11);
    let data = segment(0x18, 3);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    (sregs.gdt.base, sregs.gdt.limit) = (GDT, 31);
    sregs.cr0 = CR0_PE | CR0_ET;
    state.regs =
        crate::cpu::Regs { rip: entry, rax: IN_EAX, rbx: MULTIBOOT, rflags: rflags::FIXED, ..Default::default() };
    Ok(vm.reset_fpu()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flat image of `code` that is loaded at 1 MiB.
    fn flat(flags: u32, code: &[u8]) -> Vec<u8> {
        let words = [MAGIC, flags, 0u32.wrapping_sub(MAGIC).wrapping_sub(flags), 0x10_0000, 0x10_0000, 0, 0, 0x10_0020];
        words.iter().flat_map(|w| w.to_le_bytes()).chain(code.iter().copied()).collect()
    }

    #[test]
    fn a_flat_image_is_loaded_where_its_header_says() {
        let image = flat(HAS_ADDRESSES, b"code");
        let (parts, entry) = parts(&image).unwrap();
        assert_eq!((parts[0].at, parts[0].bytes, entry), (0x10_0000, &image[..], 0x10_0020));
    }

    #[test]
    fn what_cannot_be_booted_is_refused_in_words() {
        let told = |image: &[u8]| parts(image).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(told(b"").contains("no multiboot 1 header"));
        assert!(told(&flat(0, b"")).contains("no ELF file"));
        assert!(told(&flat(HAS_ADDRESSES | 8, b"")).contains("not known here"));
        let image = flat(HAS_ADDRESSES, b"");
        (12..image.len()).for_each(|cut| assert!(parts(&image[..cut]).is_err(), "{cut}"));
        let mut elf = flat(0, b"");
        elf.splice(..0, *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        assert!(told(&elf).contains("no usable ELF"), "{}", told(&elf));
    }

    #[test]
    fn the_information_points_at_what_it_says() {
        let mut info = Info::new(64 << 20);
        info.add_module(0x20_0000, 0x20_1000, "one two").unwrap();
        let at = |i: usize| word(&info.bytes, i).unwrap() as usize;
        let here = |addr: usize| addr - MULTIBOOT as usize;
        assert_eq!((at(0), at(4), at(8)), (TOLD as usize, 639, 63 << 10));
        let module = here(at(24));
        assert_eq!((at(20), at(module), at(module + 4)), (1, 0x20_0000, 0x20_1000));
        assert!(info.bytes[here(at(module + 8))..].starts_with(b"one two\0"));
        assert!(info.bytes[here(at(64))..].starts_with(b"nmi-lab\0"));
        assert_eq!((at(44), at(here(at(48)))), (72, 20));
    }
}
