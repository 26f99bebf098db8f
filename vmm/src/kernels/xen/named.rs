//! A paravirtual guest of the user's: an ELF file with Xen's notes, of which the lab knows what its
//! user names.

use object::elf::PF_X;
use object::{Object, ObjectSegment, SegmentFlags};

use super::dom0::Dom0;
use crate::kernels::kernel::Alive;
use crate::kernels::pc::{Error, KernelSymbols, Module, Program};

/// The note by which Xen knows where a guest begins (XEN_ELFNOTE_ENTRY, xen/include/public/elfnote.h).
const NOTE: &[u8] = b"\x04\0\0\0\x08\0\0\0\x01\0\0\0Xen\0";

/// What the user says about a guest.
#[derive(Clone, Debug)]
pub struct Named {
    /// The ELF file.
    pub elf: Vec<u8>,
    /// Its symbols.
    pub symbols: KernelSymbols,
    /// [`Dom0::counter`].
    pub counter: Option<u64>,
    /// [`Dom0::nested`].
    pub nested: Option<u64>,
    /// Where it goes when it gives up.
    pub panics: Vec<u64>,
    /// What shows that it lives.
    pub alive: Alive,
    /// The port that it writes to then; 0 where there is none.
    pub port: u16,
}

/// The symbols of a guest's file.
pub fn guest_symbols(elf: &[u8]) -> Result<KernelSymbols, Error> {
    KernelSymbols::of_table(elf).ok_or_else(|| Error::Symbols("the guest has no symbol table: it is stripped".into()))
}

impl Named {
    /// As what runs on Xen.
    pub fn dom0(self) -> Result<Dom0, Error> {
        let file = object::File::parse(&*self.elf).map_err(|e| Error::Image(format!("it is no ELF file: {e}")))?;
        if file.architecture() != object::Architecture::X86_64 {
            return Err(Error::Image("it is no ELF file of x86-64".into()));
        }
        if !self.elf.windows(NOTE.len()).any(|bytes| bytes == NOTE) {
            return Err(Error::Image(
                "it has no note of Xen's that says where it begins (XEN_ELFNOTE_ENTRY): Xen cannot start it".into(),
            ));
        }
        let runs = |flags: SegmentFlags| matches!(flags, SegmentFlags::Elf { p_flags, .. } if p_flags.0 & PF_X.0 != 0);
        let code =
            file.segments().filter(|s| runs(s.flags())).map(|s| s.address()..s.address().saturating_add(s.size()));
        let code: Vec<_> = code.collect();
        if code.is_empty() {
            return Err(Error::Image("it has no segment with code".into()));
        }
        Ok(Dom0 {
            words: "noapic",
            code,
            symbols: self.symbols,
            program: Program::at_port(self.port),
            alive: self.alive,
            panics: self.panics,
            counter: self.counter,
            nested: self.nested,
            depth: None,
            site: None,
            settle: None,
            complaint: None,
            choices: Vec::new(),
            modules: vec![Module { bytes: self.elf, words: "dom0".into() }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xen_cannot_start_is_refused() {
        let of = |elf: &[u8]| {
            let (symbols, port) = (KernelSymbols::default(), 0x4e4);
            let (counter, nested, panics, alive) = (None, None, Vec::new(), Alive::Heartbeat);
            Named { elf: elf.to_vec(), symbols, counter, nested, panics, alive, port }.dom0()
        };
        assert!(of(b"no ELF").is_err_and(|why| why.to_string().contains("no ELF file")));
        assert!(of(super::super::guest::ELF).is_ok_and(|dom0| !dom0.code.is_empty()));
        let mut without = super::super::guest::ELF.to_vec();
        let at = without.windows(NOTE.len()).position(|bytes| bytes == NOTE).unwrap();
        without[at] = 0;
        assert!(of(&without).is_err_and(|why| why.to_string().contains("XEN_ELFNOTE_ENTRY")));
        assert!(guest_symbols(b"\x7fELF").is_err_and(|why| why.to_string().contains("stripped")));
    }
}
