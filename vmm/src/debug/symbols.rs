//! A kernel's symbols as an ELF file, for gdb: its code is read from the machine.

use object::Endianness;
use object::build::elf::{Builder, SectionData};
use object::elf;

use crate::kernels::pc::KernelSymbols;

/// The file; an empty one where it cannot be made, since names decide nothing.
pub fn file(symbols: &KernelSymbols) -> Vec<u8> {
    build(symbols).unwrap_or_else(|why| {
        log::warn!("the kernel's symbols cannot be shown to the debugger: {why}");
        Vec::new()
    })
}

fn build(symbols: &KernelSymbols) -> Result<Vec<u8>, object::build::Error> {
    let lowest = symbols.lowest();
    let named = || symbols.all().filter(|(addr, _)| *addr >= lowest);
    let (first, last) = (named().next().map_or(lowest, |s| s.0), named().last().map_or(lowest, |s| s.0));
    let code = symbols.text();
    let is_code = |addr| code.is_empty() || code.iter().any(|text| text.contains(&addr));
    let mut file = Builder::new(Endianness::Little, true);
    (file.header.e_type, file.header.e_machine) = (elf::ET_EXEC, elf::EM_X86_64);
    // Without bytes of its own, so that gdb asks for what memory holds.
    let kernel = file.sections.add();
    kernel.name = b".kernel"[..].into();
    (kernel.sh_type, kernel.sh_flags.0) = (elf::SHT_NOBITS, elf::SHF_ALLOC.0 | elf::SHF_EXECINSTR.0);
    (kernel.sh_addr, kernel.sh_addralign) = (first, 1);
    kernel.data = SectionData::UninitializedData(last - first + 1);
    let kernel = kernel.id();
    for (name, kind, data) in [
        (".symtab", elf::SHT_SYMTAB, SectionData::Symbol),
        (".strtab", elf::SHT_STRTAB, SectionData::String),
        (".shstrtab", elf::SHT_STRTAB, SectionData::SectionString),
    ] {
        let section = file.sections.add();
        section.name = name.as_bytes().into();
        (section.sh_type, section.sh_addralign, section.data) = (kind, 8, data);
    }
    for (addr, name) in named() {
        let symbol = file.symbols.add();
        symbol.name = name.as_bytes().into();
        symbol.section = Some(kernel);
        symbol.st_value = addr;
        symbol.set_st_info(elf::STB_GLOBAL, if is_code(addr) { elf::STT_FUNC } else { elf::STT_OBJECT });
    }
    let mut out = Vec::new();
    file.write(&mut out)?;
    Ok(out)
}
