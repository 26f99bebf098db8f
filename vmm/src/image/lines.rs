//! Source lines of an image's code, from its DWARF.

use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};

use super::elf::Elf;
use super::file::Image;

/// Which source line each piece of code comes from. Empty without DWARF: it only
/// helps to read, so whatever is wrong with it is no error.
#[derive(Debug, Default)]
pub struct Lines {
    /// First address, end, file and line; ascending.
    rows: Vec<(u64, u64, String, u32)>,
}

impl Lines {
    /// Of an image, and of what was linked into it.
    pub fn of(image: &Image) -> Self {
        let mut out = Self::default();
        if let Ok(file) = Elf::read(image.bytes()) {
            out.read(image, |name| file.section(name));
        }
        out.read(image, |name| image.dwarf.get(name).map(Vec::as_slice));
        out.rows.sort();
        out
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The file, as DWARF names it, and the line of the instruction at `addr`.
    pub fn at(&self, addr: u64) -> Option<(&str, u32)> {
        let end = self.rows.partition_point(|(first, ..)| *first <= addr);
        self.rows[..end].last().filter(|(_, end, ..)| addr < *end).map(|(.., file, line)| (file.as_str(), *line))
    }

    fn read<'a>(&mut self, image: &Image, section: impl Fn(&str) -> Option<&'a [u8]>) {
        let load = |id: SectionId| -> Result<_, ()> {
            Ok(EndianSlice::new(section(id.name()).unwrap_or_default(), LittleEndian))
        };
        let Ok(dwarf) = Dwarf::load(load) else { return };
        let Ok(context) = addr2line::Context::from_dwarf(dwarf) else { return };
        for segment in image.segments.iter().filter(|s| s.exec) {
            let Ok(rows) = context.find_location_range(segment.vaddr, segment.vaddr + segment.size) else { continue };
            for (first, size, location) in rows {
                let (Some(file), Some(line)) = (location.file, location.line) else { continue };
                self.rows.push((first, first.saturating_add(size), file.to_owned(), line));
            }
        }
    }
}
