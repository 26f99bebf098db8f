//! Linux's NMI path, and where it counts NMIs.

use iced_x86::{Mnemonic, OpKind, Register};

use crate::kernels::entry::EntryPath;
use crate::kernels::pc::{Error, KernelSymbols, Pc};

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

/// The handler's C code, by the names that it has had.
pub const HANDLERS: [&str; 3] = ["exc_nmi", "do_nmi", "exc_nmi_noist"];

/// Reads the path out of a kernel that has booted.
pub fn nmi_path(pc: &Pc) -> Result<EntryPath, Error> {
    EntryPath::read(pc, &["asm_exc_nmi", "nmi"], &LABELS, Some(nmi_counter(pc, &pc.symbols, pc.kernel_gs()?)?))
}

/// The word that the handler's C code increments: `irq_stat.__nmi_count`, found as
/// what it increments within `irq_stat`, whose layout differs between versions. `gs` is the base of the
/// kernel's per-CPU data.
pub fn nmi_counter(pc: &Pc, symbols: &KernelSymbols, gs: u64) -> Result<u64, Error> {
    let missing = |what: &str| Error::Symbols(format!("{what}: the kernel's count of NMIs cannot be found"));
    let irq_stat = symbols.get("irq_stat").ok_or_else(|| missing("there is no irq_stat"))?;
    let start = symbols.any(&HANDLERS).ok_or_else(|| missing("there is no exc_nmi"))?;
    let end = symbols.next_after(start).unwrap_or(start + 0x400).min(start + 0x800);
    let mut addr = start;
    while addr < end {
        let Some(d) = pc.instruction(addr) else { break };
        let insn = &d.insn;
        let adds = matches!(insn.mnemonic(), Mnemonic::Inc | Mnemonic::Add) && insn.op0_kind() == OpKind::Memory;
        let plain = matches!(insn.memory_base(), Register::None | Register::RIP);
        let at = insn.memory_displacement64();
        if adds && plain && (irq_stat..irq_stat + 64).contains(&at) {
            let percpu = insn.segment_prefix() == Register::GS;
            return Ok(if percpu { at.wrapping_add(gs) } else { at });
        }
        addr = insn.next_ip();
    }
    Err(missing("nothing in exc_nmi counts in irq_stat"))
}
