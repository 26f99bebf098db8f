//! The NMI entry path as it is live in memory: after the kernel patched its
//! alternatives, found by its symbols.

use super::pc::{Error, Pc};

/// Bytes that no kernel's NMI entry is longer than.
const LONGEST: u64 = 0x1000;

/// A place where an NMI can arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Address of the instruction that comes next.
    pub addr: u64,
    /// `label+0xoff`.
    pub place: String,
    /// The instruction, in AT&T syntax.
    pub text: String,
}

/// The NMI entry code of a running kernel.
#[derive(Clone, Debug)]
pub struct EntryPath {
    /// First instruction of the NMI's handler.
    pub entry: u64,
    /// The address after its last.
    pub end: u64,
    /// All instructions between.
    pub boundaries: Vec<Boundary>,
    /// The iretqs among them.
    pub irets: Vec<u64>,
    /// Address of the 32-bit word that counts handled NMIs, where the kernel has one.
    pub counter: Option<u64>,
}

impl EntryPath {
    /// Reads the path out of a kernel that has booted. Its first label is one of `names`; it
    /// reaches as far as the last of `labels`.
    pub fn read(pc: &Pc, names: &[&str], labels: &[&str], counter: Option<u64>) -> Result<Self, Error> {
        let symbols = &pc.symbols;
        let entry = pc.handler(2).ok_or_else(|| Error::Symbols("the IDT has no handler for NMIs".into()))?;
        let named = symbols.any(names);
        if named != Some(entry) {
            let named = named.map_or("nowhere".into(), |a| format!("{a:#x}"));
            return Err(Error::Symbols(format!(
                "the IDT's NMI handler is at {entry:#x}, the symbols have it at {named}: they are another kernel's"
            )));
        }
        let last = labels.iter().filter_map(|l| symbols.get(l)).filter(|a| *a >= entry && a - entry < LONGEST).max();
        let end = symbols.next_after(last.unwrap_or(entry)).unwrap_or(entry + 0x400).min(entry + LONGEST);
        Ok(Self::between(pc, entry, end, counter))
    }

    /// The path of a kernel whose labels are not known: from the IDT's handler to the next symbol.
    pub fn live(pc: &Pc, counter: Option<u64>) -> Result<Self, Error> {
        let entry = pc.handler(2).ok_or_else(|| Error::Symbols("the IDT has no handler for NMIs".into()))?;
        let end = pc.symbols.next_after(entry).unwrap_or(u64::MAX).min(entry + LONGEST);
        Ok(Self::between(pc, entry, end, counter))
    }

    fn between(pc: &Pc, entry: u64, end: u64, counter: Option<u64>) -> Self {
        let mut boundaries = Vec::new();
        let mut irets = Vec::new();
        let mut addr = entry;
        while addr < end {
            let Some(d) = pc.instruction(addr) else { break };
            if d.flow == crate::image::Flow::Iret {
                irets.push(addr);
            }
            boundaries.push(Boundary { addr, place: pc.symbols.show(addr), text: d.text() });
            addr = d.insn.next_ip();
        }
        Self { entry, end, boundaries, irets, counter }
    }

    /// Whether an address is one of the path's.
    pub fn contains(&self, addr: u64) -> bool {
        (self.entry..self.end).contains(&addr)
    }

    /// How many NMIs the kernel has handled; `None` where it does not count them.
    pub fn count(&self, pc: &Pc) -> Result<Option<u32>, Error> {
        let Some(addr) = self.counter else { return Ok(None) };
        let mut bytes = [0; 4];
        match pc.read(addr, &mut bytes) {
            true => Ok(Some(u32::from_le_bytes(bytes))),
            false => Err(Error::Unreadable { what: "the kernel's count of NMIs", addr }),
        }
    }
}
