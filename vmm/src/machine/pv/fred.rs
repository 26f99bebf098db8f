//! FRED (flexible return and event delivery), as far as NMIs and SYSCALL go: what the CPU
//! would do, done by the VMM.
//!
//! The frame says what its return means: an NMI's delivery sets a bit in the SS slot,
//! and ERETS and ERETU unblock NMIs only where the frame that they pop has it, and only
//! if they succeed. Events of CPL3 are delivered on stack level 0, with GS swapped; ERETU
//! swaps it back. Layouts are those of Linux's arch/x86/include/asm/fred.h; what the
//! returns check and load is in the SDM (vol. 2, ERETS and ERETU; vol. 3, 8.3 and 8.4).

use guest::abi::{self, Frame, FredConfig};

use super::outcome::{Delivery, EFAULT, EINVAL, Outcome, Refusal};
use super::selector::Segments;
use super::state::{Fred, Pv};
use crate::cpu::{is_canonical, rflags};
use crate::kvm::VcpuState;
use crate::machine::memory::{GuestMemory, GuestMemoryMut};

/// Where events of CPL0 enter, in the entry page; those of CPL3 do at its beginning.
const KERNEL_ENTRY: u64 = 256;
/// Vector of the NMI.
const NMI: u32 = 2;
/// What the SS slot says of an event: vector in bits 39:32, type in 51:48, and bit 57 for
/// 64-bit code. An NMI has type 2.
const NMI_EVENT: u64 = abi::FRED_SS_NMI | (NMI as u64) << 32 | 2 << 48 | LONG;
/// SYSCALL has type 7 and vector 1, and its length in bits 63:60.
const SYSCALL_EVENT: u64 = 1 << 32 | 7 << 48 | 2 << 60 | LONG;
const LONG: u64 = 1 << 57;
/// Bits of the CS slot that are neither selector nor stack level.
const CS_RESERVED: u64 = !0x3_ffff;
/// RFLAGS bits that are always zero, and VM.
const FLAGS_RESERVED: u64 = !0x3f_7fd7 | rflags::VM;

/// #UD: there is no such instruction.
const NO_FRED: Refusal = Refusal { vector: 6, error: 0, why: "FRED is not on" };

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

    /// Delivery of an NMI.
    pub(super) fn deliver_fred(&mut self, fred: Fred, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Delivery {
        let delivered = self.event(fred, NMI_EVENT, state, mem);
        if delivered == Delivery::Entered {
            self.mask();
        }
        delivered
    }

    /// A user's SYSCALL, which is an event like others: RCX and R11 are the user's still.
    pub(super) fn syscall_fred(
        &mut self,
        fred: Fred,
        next: u64,
        state: &mut VcpuState,
        mem: &mut GuestMemoryMut,
    ) -> Delivery {
        let before = *state;
        (state.regs.rip, state.regs.rflags) = (next, state.regs.rflags & !rflags::RF);
        let delivered = self.event(fred, SYSCALL_EVENT, state, mem);
        if delivered != Delivery::Entered {
            *state = before;
        }
        delivered
    }

    /// Delivery of an event. From CPL0 on a higher stack level at that level's top, else
    /// below what is in use, 64-byte aligned either way; from CPL3 on level 0, at its top.
    fn event(&mut self, fred: Fred, event: u64, state: &mut VcpuState, mem: &mut GuestMemoryMut) -> Delivery {
        let c = &fred.config;
        let user = state.sregs.cs.selector & 3 == 3;
        let vector = event >> 32 & 0xff;
        let level = if user { 0 } else { fred.level.max((c.levels >> (2 * vector) & 3) as u8) };
        let top = match user || level > fred.level {
            true => c.rsp[usize::from(level)],
            false => state.regs.rsp.wrapping_sub(c.config & 0x1c0),
        };
        let rsp = (top & !63).wrapping_sub(size_of::<abi::FredFrame>() as u64);
        let cs = u64::from(state.sregs.cs.selector) | u64::from(fred.level) << abi::FRED_CS_LEVEL_SHIFT;
        let ss = u64::from(state.sregs.ss.selector) | event;
        let frame = [0, state.regs.rip, cs, state.regs.rflags, state.regs.rsp, ss, 0, 0];
        if !mem.write_words(state.sregs.cr3, rsp, &frame) {
            return Delivery::Crashed(format!("FRED's frame for an event at {rsp:#x} cannot be written: double fault"));
        }
        if user {
            let cs = (self.star >> 32) as u16 & !3;
            Segments::standard(cs, cs.wrapping_add(8)).commit(state);
            std::mem::swap(&mut state.sregs.gs.base, &mut state.kernel_gs);
        }
        self.fred = Some(Fred { level, ..fred });
        state.regs.rsp = rsp;
        state.regs.rip = (c.config & !0xfff) + if user { 0 } else { KERNEL_ENTRY };
        state.regs.rflags = rflags::FIXED;
        Delivery::Entered
    }

    /// ERETS, which is the instruction at `from`; the vCPU stands behind it.
    pub fn erets(&mut self, state: &mut VcpuState, mem: &GuestMemory, from: u64) -> Outcome {
        let Some(fred) = self.fred else { return Outcome::Refused(NO_FRED) };
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
            return Outcome::Refused(Refusal::protection(why));
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

    /// ERETU, which is the instruction at `from`; the vCPU stands behind it.
    pub fn eretu(&mut self, state: &mut VcpuState, mem: &GuestMemory, from: u64) -> Outcome {
        let Some(fred) = self.fred else { return Outcome::Refused(NO_FRED) };
        let Some([_, rip, cs, flags, rsp, ss]) = mem.words(state.sregs.cr3, state.regs.rsp) else {
            return Outcome::Crashed(format!("ERETU: the frame at {:#x} cannot be read", state.regs.rsp));
        };
        let refusal = match () {
            () if fred.level != 0 => Some("the stack level is not 0"),
            () if !is_canonical(rip) => Some("RIP is not canonical"),
            () if cs & !0xffff != 0 => Some("the CS slot has reserved bits or a stack level"),
            () if cs & 3 != 3 => Some("CS is not of ring 3"),
            () if flags & FLAGS_RESERVED != 0 || flags & rflags::FIXED == 0 => Some("RFLAGS have reserved bits"),
            () => None,
        };
        if let Some(why) = refusal {
            return Outcome::Refused(Refusal::protection(why));
        }
        // The two of IA32_STAR are loaded as SYSRET loads them; others are looked up.
        let base = (self.star >> 48) as u16;
        let standard = (base.wrapping_add(16) | 3, base.wrapping_add(8) | 3);
        let segments = match (cs as u16, ss as u16) == standard {
            true => Ok(Segments::standard(standard.0, standard.1)),
            false => Segments::load(state, mem, cs, ss),
        };
        match segments {
            Ok(segments) => segments.commit(state),
            Err(refusal) => return Outcome::Refused(refusal),
        }
        let context_at = state.regs.rsp.wrapping_add(8);
        let unmasked = ss & abi::FRED_SS_NMI != 0;
        if unmasked {
            self.pop_mask();
        }
        std::mem::swap(&mut state.sregs.gs.base, &mut state.kernel_gs);
        (state.regs.rip, state.regs.rsp, state.regs.rflags) = (rip, rsp, flags);
        let frame = Frame { rip, cs, rflags: flags, rsp, ss: ss & 0xffff };
        Outcome::Resumed { frame, context_at, from, unmasked: unmasked && !self.masked }
    }
}
