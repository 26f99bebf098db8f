//! Where Linux keeps its own symbols.

use super::kallsyms;
use crate::kernels::pc::{Error, KernelSymbols};

/// Symbols of the unpacked kernel: its ELF symbol table, else kallsyms.
pub fn symbols_of_image(elf: &[u8]) -> Result<KernelSymbols, Error> {
    if let Some(symbols) = KernelSymbols::of_elf(elf) {
        return Ok(symbols);
    }
    let found = kallsyms::find(elf).map_err(|why| {
        Error::Symbols(format!(
            "the image has no symbol table, and {why}; give a System.map or a vmlinux with --symbols"
        ))
    })?;
    Ok(KernelSymbols::new(found, "kallsyms in the image".into()))
}
