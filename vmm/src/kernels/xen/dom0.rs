//! What runs on Xen, as far as the lab must know it: the lab's own guest, one of the user's, or Linux.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::kernels::kernel::Alive;
use crate::kernels::pc::{Error, KernelSymbols, Module, Pc, Program, Skip};

/// A guest's count of NMIs that was found once it was up.
pub(super) const COUNTER: &str = "dom0_nmi_count";

/// Looks at a guest that has come up.
pub(super) type Settle = fn(&Dom0, &mut Pc) -> Result<(), Error>;

/// The paravirtual guest that Xen starts as dom0.
#[derive(Clone)]
pub struct Dom0 {
    /// Words for Xen's own command line.
    pub(super) words: &'static str,
    /// Its kernel, and its initial RAM disk where it has one.
    pub(super) modules: Vec<Module>,
    /// Its symbols.
    pub(super) symbols: KernelSymbols,
    /// Its code.
    pub(super) code: Vec<Range<u64>>,
    /// What it is to say by a port.
    pub(super) program: Program,
    /// What shows after a case that it lives.
    pub(super) alive: Alive,
    /// Where it goes when it gives up.
    pub(super) panics: Vec<u64>,
    /// Its complaint about an NMI without a source.
    pub(super) complaint: Option<Skip>,
    /// The 32-bit word in which it counts the NMIs that reach it; where that is known only once it
    /// is up, it has the name [`COUNTER`] then.
    pub(super) counter: Option<u64>,
    /// The 32-bit word in which it counts entries of its NMI callback while its body is active.
    pub(super) nested: Option<u64>,
    /// The 32-bit word that is 0 where no callback of it runs.
    pub(super) depth: Option<u64>,
    /// Where the first NMI arrives, unless told; `None` for a hypercall that does little.
    pub(super) site: Option<u64>,
    /// Once it is up: what is to be found out about it, and where it is to stand then.
    pub(super) settle: Option<Settle>,
    /// What is written into it when it has come up: what it is, where, and the bytes.
    pub(super) choices: Vec<(&'static str, u64, Vec<u8>)>,
}

impl Dom0 {
    /// What is to be written into it.
    pub(super) fn choose(&self, pc: &mut Pc) -> Result<(), Error> {
        self.choices.iter().try_for_each(|(what, addr, bytes)| pc.write_kernel(what, *addr, bytes))
    }

    /// Its count of NMIs, where there is one.
    pub(super) fn told(&self, pc: &Pc) -> Result<Option<u32>, Error> {
        let Some(addr) = self.counter.or_else(|| pc.symbols.get(COUNTER)) else { return Ok(None) };
        let mut bytes = [0; 4];
        match pc.read(addr, &mut bytes) {
            true => Ok(Some(u32::from_le_bytes(bytes))),
            false => Err(Error::Unreadable { what: "the guest's count of NMIs", addr }),
        }
    }

    /// What is not known of it, and so not looked at.
    pub(super) fn unchecked(&self) -> Vec<&'static str> {
        let unless = |known: bool, what| (!known).then_some(what);
        let gives_up = self.program.checksum.is_some() || !self.panics.is_empty();
        [
            unless(gives_up, "whether the guest gives up (no --panic)"),
            unless(
                self.counter.is_some() || self.settle.is_some(),
                "whether the guest is told of each NMI (no --counter)",
            ),
            unless(
                self.nested.is_some(),
                "whether the guest's NMI callback is entered while its body is active (no --nested)",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Adds all that a saved machine depends on.
    pub(super) fn number(&self, all: &mut Xxh3) {
        let Self { words, modules, symbols, code, program, alive, panics, .. } = self;
        for module in modules {
            all.update(&(module.bytes.len() as u64).to_le_bytes());
            all.update(&module.bytes);
            all.update(module.words.as_bytes());
        }
        for (addr, name) in symbols.all() {
            all.update(&addr.to_le_bytes());
            all.update(name.as_bytes());
        }
        all.update(words.as_bytes());
        all.update(format!("{code:?} {program:?} {alive:?} {panics:?}").as_bytes());
    }

    /// Without what only a boot needs.
    pub(super) fn resumed(&self) -> Self {
        Self { modules: Vec::new(), ..self.clone() }
    }
}
