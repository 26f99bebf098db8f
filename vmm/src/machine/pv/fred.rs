//! FRED (flexible return and event delivery), as far as an NMI from CPL0 goes: what
//! the CPU would do, done by the VMM.
//!
//! The frame says what its return means: an NMI's delivery sets a bit in the SS slot,
//! and ERETS unblocks NMIs only where the frame that it pops has it, and only if it
//! succeeds. Layouts are those of Linux's arch/x86/include/asm/fred.h.

use guest::abi::{self, Frame, FredConfig};

use super::{Delivery, EFAULT, EINVAL, Outcome, Pv, is_canonical};
use crate::kvm::{VcpuState, rflags};
use crate::machine::memory::{GuestMemory, GuestMemoryMut};

/// What a CPU with FRED keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fred {
    /// Its MSRs.
    pub config: FredConfig,
    /// The current stack level (CSL).
    pub level: u8,
}

/// Where events of CPL0 enter, in the entry page.
const KERNEL_ENTRY: u64 = 256;
/// Vector of the NMI.
const NMI: u32 = 2;
/// The SS slot of an NMI's frame: vector in bits 39:32, type 2 in 51:48, and bit 57 for
/// 64-bit code.
const NMI_EVENT: u64 = (NMI as u64) << 32 | 2 << 48 | 1 << 57;
/// Bits of the CS slot that are neither selector nor stack level.
const CS_RESERVED: u64 = !0x3_ffff;
/// RFLAGS bits that are always zero, and VM.
const FLAGS_RESERVED: u64 = !0x3f_7fd7 | rflags::VM;

impl Pv {
    pub(super) fn configure_fred(&mut self, state: &VcpuState, mem: &GuestMemory) -> u64 {
        let Some([config, levels, r0, r1, r2, r3]) = mem.words(state.sregs.cr3, state.regs.rdi) else {
            return EFAULT;
        };
        let rsp = [r0, r1, r2, r3];
        if !is_canonical(config) || rsp.iter().any(|r| r % 64 != 0 || !is_canonical(*r)) {
            return EINVAL;
        }
        self.fred = Some(Fred { config: FredConfig { config, levels, rsp }, level: 0 });
        0
    }

    /// Delivery of an NMI: on a higher stack level at that level's top, else below what
    /// is in use; 64-byte aligned either way.
    pub(super) fn deliver_fred(&mut self, fred: Fred, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Delivery {
        if state.sregs.cs.selector & 3 != 0 {
            return Delivery::Crashed("FRED's delivery from CPL3 is not modelled".into());
        }
        let c = &fred.config;
        let level = fred.level.max((c.levels >> (2 * NMI) & 3) as u8);
        let top = match level > fred.level {
            true => c.rsp[usize::from(level)],
            false => state.regs.rsp.wrapping_sub(c.config & 0x1c0),
        };
        let rsp = (top & !63).wrapping_sub(size_of::<abi::FredFrame>() as u64);
        let cs = u64::from(state.sregs.cs.selector) | u64::from(fred.level) << abi::FRED_CS_LEVEL_SHIFT;
        let ss = u64::from(state.sregs.ss.selector) | abi::FRED_SS_NMI | NMI_EVENT;
        let frame = [0, state.regs.rip, cs, state.regs.rflags, state.regs.rsp, ss, 0, 0];
        if !mem.write_words(state.sregs.cr3, rsp, &frame) {
            return Delivery::Crashed(format!("FRED's frame for an NMI at {rsp:#x} cannot be written: double fault"));
        }
        self.mask();
        self.fred = Some(Fred { level, ..fred });
        state.regs.rsp = rsp;
        state.regs.rip = (c.config & !0xfff) + KERNEL_ENTRY;
        state.regs.rflags = rflags::FIXED;
        Delivery::Entered
    }

    /// ERETS, which is the instruction at `from`; the vCPU stands behind it.
    pub fn erets(&mut self, state: &mut VcpuState, mem: &GuestMemory, from: u64) -> Outcome {
        let Some(fred) = self.fred else { return Outcome::Refused("ERETS without FRED: #UD, here #GP") };
        let Some([_, rip, cs, flags, rsp, ss]) = mem.words(state.sregs.cr3, state.regs.rsp) else {
            return Outcome::Crashed(format!("ERETS: the frame at {:#x} cannot be read", state.regs.rsp));
        };
        let level = (cs >> abi::FRED_CS_LEVEL_SHIFT & 3) as u8;
        let refusal = match () {
            () if !is_canonical(rip) => Some("RIP is not canonical"),
            () if cs & CS_RESERVED != 0 => Some("the CS slot has reserved bits set"),
            () if cs as u16 != state.sregs.cs.selector => Some("CS is not the current one"),
            () if ss as u16 != state.sregs.ss.selector => Some("SS is not the current one"),
            () if level > fred.level => Some("the stack level is above the current one"),
            () if flags & FLAGS_RESERVED != 0 || flags & rflags::FIXED == 0 => Some("RFLAGS have reserved bits"),
            () => None,
        };
        if let Some(why) = refusal {
            return Outcome::Refused(why);
        }
        let context_at = state.regs.rsp.wrapping_add(8);
        let unmasked = ss & abi::FRED_SS_NMI != 0;
        if unmasked {
            self.pop_mask();
        }
        self.fred = Some(Fred { level, ..fred });
        (state.regs.rip, state.regs.rsp, state.regs.rflags) = (rip, rsp, flags);
        let frame = Frame { rip, cs: cs & 0xffff, rflags: flags, rsp, ss: ss & 0xffff };
        Outcome::Resumed { frame, context_at, from, unmasked: unmasked && !self.masked }
    }
}
