//! LSL, for a KVM whose emulator does not know it.

use iced_x86::{Mnemonic, OpKind};

use super::Pc;
use crate::cpu::rflags;

/// Attributes of a descriptor (SDM vol. 3, 3.4.5), as bits of its eight bytes.
const TYPE: u32 = 40;
const CODE_OR_DATA: u64 = 1 << 44;
const DPL: u32 = 45;
const GRANULARITY: u64 = 1 << 55;

impl Pc {
    /// Executes an LSL at RIP (SDM vol. 2), if it is one.
    ///
    /// Host kvm_pvm, symptom KVM_EXIT_INTERNAL_ERROR with suberror 1 at an LSL: Linux with FSGSBASE
    /// learns by one which CPU an NMI has come to (GET_PERCPU_BASE in arch/x86/entry/calling.h).
    pub(super) fn assist_limit(&mut self) -> bool {
        let Some(d) = self.next_instruction().filter(|d| d.insn.mnemonic() == Mnemonic::Lsl) else { return false };
        let insn = &d.insn;
        let register = |reg: iced_x86::Register| self.state().regs.gpr(reg.number() as u8);
        let selector = match insn.op1_kind() {
            OpKind::Register => register(insn.op1_register()) as u16,
            _ => {
                let at = insn.virtual_address(1, 0, |reg, _, _| self.register(reg));
                let mut bytes = [0; 2];
                // Memory that is not mapped faults, and that is for KVM to say.
                if !at.is_some_and(|at| self.read(at, &mut bytes)) {
                    return false;
                }
                u16::from_le_bytes(bytes)
            }
        };
        let Ok(descriptor) = self.descriptor(selector) else { return false };
        let cpl = self.cpl();
        let limit = descriptor.and_then(|descriptor| limit_of(descriptor, selector, cpl));
        let (n, size) = (insn.op0_register().number() as u8, insn.op0_register().size());
        let regs = &mut self.vm.state_mut().regs;
        regs.rip += insn.len() as u64;
        match limit {
            None => regs.rflags &= !rflags::ZF,
            Some(limit) => {
                regs.rflags |= rflags::ZF;
                let kept = if size == 2 { regs.gpr(n) & !0xffff } else { 0 };
                *regs.gpr_mut(n) = kept | u64::from(if size == 2 { limit & 0xffff } else { limit });
            }
        }
        self.vm.drop_exception();
        self.assists.lsl += 1;
        true
    }

    /// The descriptor that a selector names; `None` where its table has none. An error where the table
    /// is not mapped.
    fn descriptor(&self, selector: u16) -> Result<Option<u64>, ()> {
        let sregs = &self.state().sregs;
        let (base, limit) = match selector & 4 {
            0 => (sregs.gdt.base, u32::from(sregs.gdt.limit)),
            _ if sregs.ldt.unusable != 0 => return Ok(None),
            _ => (sregs.ldt.base, sregs.ldt.limit),
        };
        let at = selector & !7;
        if selector & !3 == 0 || u32::from(at) + 7 > limit {
            return Ok(None);
        }
        self.word(base.wrapping_add(at.into())).map(Some).ok_or(())
    }
}

/// The limit in bytes that LSL loads; `None` where it clears ZF instead.
fn limit_of(descriptor: u64, selector: u16, cpl: u8) -> Option<u32> {
    let type_ = descriptor >> TYPE & 0xf;
    let conforming = descriptor & CODE_OR_DATA != 0 && type_ & 0xc == 0xc;
    // Of system segments an LDT and task state segments have one (SDM vol. 2, table 3-57).
    if descriptor & CODE_OR_DATA == 0 && !matches!(type_, 2 | 9 | 11) {
        return None;
    }
    let dpl = (descriptor >> DPL & 3) as u8;
    if !conforming && cpl.max((selector & 3) as u8) > dpl {
        return None;
    }
    let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
    Some(if descriptor & GRANULARITY != 0 { limit << 12 | 0xfff } else { limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_sdm() {
        // The CPU's number, as Linux has it: a data segment of DPL 3 whose limit is it.
        let cpu = 0x0040_f500_0000_0007;
        assert_eq!(limit_of(cpu, 0x7b, 0), Some(7));
        let flat = 0x00cf_9300_0000_ffff;
        assert_eq!(limit_of(flat, 0x10, 0), Some(u32::MAX));
        assert_eq!(limit_of(flat, 0x13, 0), None, "its RPL is above its DPL");
        assert_eq!(limit_of(flat, 0x10, 3), None);
        let conforming = 0x00af_9f00_0000_ffff;
        assert_eq!(limit_of(conforming, 0x13, 3), Some(u32::MAX));
        let (gate, tss) = (0x0000_8e00_0000_0000, 0x0000_8b00_0000_0067);
        assert_eq!((limit_of(gate, 8, 0), limit_of(tss, 0x40, 0)), (None, Some(0x67)));
    }
}
