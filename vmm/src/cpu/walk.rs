//! The walk of the page tables (SDM vol. 3, 5.5 and 5.6): 4 levels, with rights, accessed and
//! dirty bits. There is no TLB: a translation is always that of the tables as they are.

use super::access::Want;
use super::control::{CR0_WP, CR4_SMAP, CR4_SMEP, EFER_NXE};
use super::end::{Fault, NotUnderstood, Run, Stop, vector};
use super::exec::Exec;
use super::memory::{Kind, Memory};
use super::page::{ACCESSED, ADDRESS, DIRTY, LARGE, NX, PRESENT, USER, WRITE};
use super::rflags;
use super::trace::Provenance;

/// Bits of a page fault's error code (SDM vol. 3, 7.15).
mod code {
    pub const PRESENT: u32 = 1;
    pub const WRITE: u32 = 1 << 1;
    pub const USER: u32 = 1 << 2;
    pub const RESERVED: u32 = 1 << 3;
    pub const FETCH: u32 = 1 << 4;
}

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// The guest-physical address of a canonical linear one, or the page fault. Accessed and
    /// dirty bits are set only where the translation succeeds.
    pub fn walk(&mut self, at: u64, want: Want) -> Run<u64> {
        let cpu = &*self.cpu;
        let nxe = cpu.sregs.efer & EFER_NXE != 0;
        let mut rights = WRITE | USER;
        let mut executable = true;
        let mut table = cpu.sregs.cr3 & ADDRESS;
        let mut entries = [(0u64, 0u64); 4];
        let mut shift = 39;
        let mut present = true;
        let mut reserved = false;
        let mut leaf = 0;
        for slot in &mut entries {
            let place = table + (at >> shift & 0x1ff) * 8;
            let entry = self.mem.read(Kind::Table, place, 8).ok_or(NotUnderstood::Memory(place))?;
            self.p.look_memory(place, 8);
            *slot = (place, entry);
            if entry & PRESENT == 0 {
                present = false;
                break;
            }
            let large = entry & LARGE != 0 && shift < 39 && shift > 12;
            reserved = entry & NX != 0 && !nxe
                || entry & LARGE != 0 && shift == 39
                || large && entry & ADDRESS & ((1 << shift) - 1) & !(1 << 12) != 0;
            if reserved {
                break;
            }
            rights &= entry;
            executable &= entry & NX == 0;
            if large || shift == 12 {
                let offset = (1u64 << shift) - 1;
                leaf = entry & ADDRESS & !offset | at & offset;
                break;
            }
            table = entry & ADDRESS;
            shift -= 9;
        }
        if !present || reserved || !self.allowed(rights, executable, want) {
            let smep = self.cpu.sregs.cr4 & CR4_SMEP != 0;
            let mut error = 0;
            let bits = [
                (present, code::PRESENT),
                (want.write, code::WRITE),
                (want.user, code::USER),
                (reserved, code::RESERVED),
                (want.fetch && (nxe || smep), code::FETCH),
            ];
            for (set, bit) in bits {
                error |= if set { bit } else { 0 };
            }
            return Err(Stop::Fault(Fault { vector: vector::PF, code: Some(error), cr2: Some(at) }));
        }
        let mut level = 39;
        for (place, entry) in entries {
            let add = if level == shift && want.write { ACCESSED | DIRTY } else { ACCESSED };
            if entry & add != add {
                self.mem.write(Kind::Table, place, 8, entry | add).ok_or(NotUnderstood::Memory(place))?;
                self.p.set_memory(place, 8, P::KNOWN);
            }
            if level == shift {
                break;
            }
            level -= 9;
        }
        Ok(leaf)
    }

    /// SDM vol. 3, 5.6.1.
    fn allowed(&mut self, rights: u64, executable: bool, want: Want) -> bool {
        let sregs = &self.cpu.sregs;
        let user_page = rights & USER != 0;
        if want.user {
            return user_page && (!want.write || rights & WRITE != 0) && (!want.fetch || executable);
        }
        if want.fetch {
            return executable && !(user_page && sregs.cr4 & CR4_SMEP != 0);
        }
        if user_page && sregs.cr4 & CR4_SMAP != 0 {
            if !want.implicit {
                self.p.look_flags(rflags::AC);
            }
            if want.implicit || self.cpu.regs.rflags & rflags::AC == 0 {
                return false;
            }
        }
        !want.write || rights & WRITE != 0 || self.cpu.sregs.cr0 & CR0_WP == 0
    }
}
