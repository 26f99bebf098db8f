//! An image as a debugger reads it: the ELF file, with the symbols and the DWARF of what was linked
//! into it.

use object::build::elf::{Builder, SectionData};
use object::elf;

use super::file::Image;
use super::symbols::Symbol;

impl Image {
    /// The ELF file for a debugger. Where the additions cannot be put into it, it is the file as it
    /// was read, with fewer names: a debugger's view decides nothing.
    pub fn for_debugger(&self) -> Vec<u8> {
        if self.added.is_empty() && self.dwarf.is_empty() {
            return self.bytes().to_vec();
        }
        self.with_additions().unwrap_or_else(|why| {
            log::warn!("the entry's symbols cannot be shown to the debugger: {why}");
            self.bytes().to_vec()
        })
    }

    fn with_additions(&self) -> Result<Vec<u8>, object::build::Error> {
        let mut file = Builder::read64(self.bytes())?;
        for Symbol { name, addr, size, code } in &self.added {
            let at = |s: &&object::build::elf::Section| {
                let len = match &s.data {
                    SectionData::UninitializedData(len) => *len,
                    SectionData::Data(bytes) => bytes.len() as u64,
                    _ => 0,
                };
                s.is_alloc() && addr.wrapping_sub(s.sh_addr) < len
            };
            let section = file.sections.iter().find(at).map(|s| s.id());
            // A debugger takes for code what is named in a section of code.
            if let Some(section) = section.filter(|_| *code).map(|id| file.sections.get_mut(id)) {
                section.sh_flags.0 |= elf::SHF_EXECINSTR.0;
            }
            let symbol = file.symbols.add();
            symbol.name = name.as_bytes().to_vec().into();
            symbol.section = section;
            symbol.st_shndx = if section.is_none() { elf::SHN_ABS } else { elf::SHN_UNDEF };
            (symbol.st_value, symbol.st_size) = (*addr, *size);
            symbol.set_st_info(elf::STB_GLOBAL, if *code { elf::STT_FUNC } else { elf::STT_OBJECT });
        }
        // The file's own DWARF, where it has any, is about its own code: two cannot be merged.
        let has_own = file.sections.iter().any(|s| s.name.as_slice() == b".debug_info");
        for (name, bytes) in self.dwarf.iter().filter(|_| !has_own) {
            let section = file.sections.add();
            section.name = name.as_bytes().to_vec().into();
            section.sh_type = elf::SHT_PROGBITS;
            section.sh_addralign = 1;
            section.data = SectionData::Data(bytes.clone().into());
        }
        let mut out = Vec::new();
        file.write(&mut out)?;
        Ok(out)
    }
}
