//! The NMI entry path as it is live in memory: after the kernel patched its
//! alternatives, found by its symbols.

use crate::kernels::pc::{Error, Pc};

/// Labels of the path, in the order of the source. A kernel has those of its version.
const LABELS: [&str; 10] = [
    "asm_exc_nmi",
    "nmi",
    "first_nmi",
    "repeat_nmi",
    "end_repeat_nmi",
    "nested_nmi",
    "nested_nmi_out",
    "nmi_no_fsgsbase",
    "nmi_swapgs",
    "nmi_restore",
];

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
    /// Just behind its last.
    pub end: u64,
    /// All instructions between.
    pub boundaries: Vec<Boundary>,
    /// The iretqs among them.
    pub irets: Vec<u64>,
    /// Address of the word that counts handled NMIs.
    pub counter: u64,
}

impl EntryPath {
    /// Reads the path out of a kernel that has booted.
    pub fn read(pc: &Pc) -> Result<Self, Error> {
        let symbols = &pc.symbols;
        let entry = pc.handler(2).ok_or_else(|| Error::Symbols("the IDT has no handler for NMIs".into()))?;
        let named = symbols.any(&["asm_exc_nmi", "nmi"]);
        if named != Some(entry) {
            let named = named.map_or("nowhere".into(), |a| format!("{a:#x}"));
            return Err(Error::Symbols(format!(
                "the IDT's NMI handler is at {entry:#x}, the symbols have it at {named}: they are another kernel's"
            )));
        }
        let last = LABELS.iter().filter_map(|l| symbols.get(l)).filter(|a| *a >= entry && a - entry < 0x1000).max();
        let end = symbols.next_after(last.unwrap_or(entry)).unwrap_or(entry + 0x400).min(entry + 0x1000);
        let mut boundaries = Vec::new();
        let mut irets = Vec::new();
        let mut addr = entry;
        while addr < end {
            let Some(d) = pc.instruction(addr) else { break };
            if d.flow == crate::image::Flow::Iret {
                irets.push(addr);
            }
            boundaries.push(Boundary { addr, place: symbols.show(addr), text: d.text() });
            addr = d.insn.next_ip();
        }
        let counter = Self::find_counter(pc)?;
        Ok(Self { entry, end, boundaries, irets, counter })
    }

    /// The word that the handler's C code increments: `irq_stat.__nmi_count`, found as
    /// what it increments within `irq_stat`, whose layout differs between versions.
    fn find_counter(pc: &Pc) -> Result<u64, Error> {
        use iced_x86::{Mnemonic, OpKind, Register};
        let missing = |what: &str| Error::Symbols(format!("{what}: the kernel's count of NMIs cannot be found"));
        let irq_stat = pc.symbols.get("irq_stat").ok_or_else(|| missing("there is no irq_stat"))?;
        let start =
            pc.symbols.any(&["exc_nmi", "do_nmi", "exc_nmi_noist"]).ok_or_else(|| missing("there is no exc_nmi"))?;
        let end = pc.symbols.next_after(start).unwrap_or(start + 0x400).min(start + 0x800);
        let mut addr = start;
        while addr < end {
            let Some(d) = pc.instruction(addr) else { break };
            let insn = &d.insn;
            let adds = matches!(insn.mnemonic(), Mnemonic::Inc | Mnemonic::Add) && insn.op0_kind() == OpKind::Memory;
            let plain = matches!(insn.memory_base(), Register::None | Register::RIP);
            let at = insn.memory_displacement64();
            if adds && plain && (irq_stat..irq_stat + 64).contains(&at) {
                let percpu = insn.segment_prefix() == Register::GS;
                return Ok(if percpu { at.wrapping_add(pc.kernel_gs()) } else { at });
            }
            addr = insn.next_ip();
        }
        Err(missing("nothing in exc_nmi counts in irq_stat"))
    }

    /// Whether an address is one of the path's.
    pub fn contains(&self, addr: u64) -> bool {
        (self.entry..self.end).contains(&addr)
    }

    /// How many NMIs the kernel has handled.
    pub fn count(&self, pc: &Pc) -> u32 {
        let word = pc.memory().word(pc.state().sregs.cr3, self.counter & !7).unwrap_or(0);
        (word >> (8 * (self.counter & 7))) as u32
    }
}

impl Pc {
    /// The GS base of the kernel's per-CPU data, from wherever execution stands.
    pub(in crate::kernels) fn kernel_gs(&self) -> u64 {
        match self.state().sregs.gs.base {
            base if base >> 63 != 0 => base,
            _ => self.vm.msr(0xc000_0102).ok().flatten().unwrap_or(0),
        }
    }
}
