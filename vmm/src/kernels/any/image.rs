//! What an image's file says of where its code and its names are.

use std::ops::Range;

use object::elf::{FileHeader32, FileHeader64, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

use crate::kernels::pc::{Error, KernelSymbols};

/// The symbols of an ELF image, or of the file that the user names for it.
pub fn symbols(image: &[u8], named: Option<&[u8]>) -> Result<KernelSymbols, Error> {
    let of = named.unwrap_or(image);
    let symbols = KernelSymbols::of_table(of);
    let symbols = symbols
        .ok_or_else(|| Error::Symbols("the image has no symbol table: name an ELF file that has (--symbols)".into()))?;
    let segments = match FileKind::parse(image) {
        Ok(FileKind::Elf32) => segments::<FileHeader32<Endianness>>(image),
        Ok(FileKind::Elf64) => segments::<FileHeader64<Endianness>>(image),
        _ => Ok(Vec::new()),
    };
    let segments = segments.map_err(|e| Error::Image(format!("it is no usable ELF file: {e}")))?;
    let code: Vec<&Segment> = segments.iter().filter(|s| s.code).collect();
    let lowest = segments.iter().map(|s| s.range.start).min();
    // The code that is farthest up is the kernel's; what is below may be what boots it.
    let Some((lowest, high)) = lowest.zip(code.iter().max_by_key(|s| s.range.start)) else {
        return Err(Error::Image("it has no segment with code".into()));
    };
    let text = code.iter().map(|s| s.range.clone()).collect();
    Ok(symbols.placed(lowest, high.range.start.wrapping_sub(high.physical), text))
}

/// A segment that is loaded.
struct Segment {
    range: Range<u64>,
    physical: u64,
    code: bool,
}

fn segments<H: FileHeader<Endian = Endianness>>(image: &[u8]) -> object::Result<Vec<Segment>> {
    let header = H::parse(image)?;
    let endian = header.endian()?;
    let loaded = header.program_headers(endian, image)?.iter().filter(|s| s.p_type(endian) == PT_LOAD);
    Ok(loaded
        .map(|s| {
            let (start, size): (u64, u64) = (s.p_vaddr(endian).into(), s.p_memsz(endian).into());
            let range = start..start.saturating_add(size);
            Segment { range, physical: s.p_paddr(endian).into(), code: s.p_flags(endian).0 & PF_X.0 != 0 }
        })
        .collect())
}
