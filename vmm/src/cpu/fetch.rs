//! The instruction that comes next: its bytes, and what they decode to.

use super::access::{Want, is_canonical};
use super::control::{CR0_AM, CR0_PE, CR0_PG, CR4_LA57, CR4_UNKNOWN, EFER_LMA};
use super::decode::{Cache, Code, Decoded, decode};
use super::end::{NotUnderstood, Run, gp, mode, ud};
use super::exec::Exec;
use super::memory::Memory;
use super::rflags::AC;
use super::trace::{Provenance, Register};

/// DR7 (SDM vol. 3, 19.2.4): the enable bits, and GD.
const DR7_ENABLED: u64 = 0xff;
const DR7_GD: u64 = 1 << 13;

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// Fetches and decodes the instruction at RIP.
    #[inline]
    pub fn fetch<'c>(&mut self, cache: &'c mut Cache) -> Run<&'c Decoded> {
        self.check_mode()?;
        let rip = self.cpu.regs.rip;
        if !is_canonical(rip) {
            return Err(gp());
        }
        let want = Want::fetch(self.cpu.cpl());
        let paddr = self.walk(rip, want)?;
        // The borrow checker wants the entry looked up again where it is returned.
        let cached = cache.get(rip, paddr).map(|(d, bytes)| (usize::from(d.len), bytes));
        if let Some((len, bytes)) = cached
            && self.mem.peek(paddr, len) == Some(bytes)
        {
            self.executed(paddr, len);
        } else {
            self.decode(cache, rip, paddr, want)?;
        }
        cache.get(rip, paddr).map(|(d, _)| d).ok_or(NotUnderstood::Undecodable.into())
    }

    fn executed(&mut self, paddr: u64, len: usize) {
        self.mem.fetched(paddr, len);
        let to_boundary = (8 - (paddr & 7) as usize).min(len);
        self.p.look_memory(paddr, to_boundary);
        for from in (to_boundary..len).step_by(8) {
            self.p.look_memory(paddr + from as u64, (len - from).min(8));
        }
    }

    /// Decodes, with the next page's bytes where the instruction goes on there.
    #[cold]
    fn decode(&mut self, cache: &mut Cache, rip: u64, paddr: u64, want: Want) -> Run<()> {
        let here = (4096 - (rip & 0xfff) as usize).min(15);
        let low = self.mem.peek(paddr, here).ok_or(NotUnderstood::Memory(paddr))?;
        let mut code = decode(&low.to_le_bytes()[..here], rip);
        let mut bytes = low;
        let mut rest = None;
        if let (Code::Longer, true) = (code, here < 15) {
            let next = rip.wrapping_add(here as u64);
            if !is_canonical(next) {
                return Err(gp());
            }
            let at = self.walk(next, want)?;
            let high = self.mem.peek(at, 15 - here).ok_or(NotUnderstood::Memory(at))?;
            bytes |= high << (8 * here);
            code = decode(&bytes.to_le_bytes()[..15], rip);
            rest = Some(at);
        }
        let decoded = match code {
            Code::Instruction(d) => d,
            Code::Invalid | Code::Longer | Code::Unknown => {
                // Any of them may be what makes it none.
                self.executed(paddr, here);
                if let Some(at) = rest {
                    self.executed(at, 15 - here);
                }
                let invalid = matches!(code, Code::Invalid);
                return Err(if invalid { ud() } else { NotUnderstood::Undecodable.into() });
            }
        };
        let len = usize::from(decoded.len);
        match rest {
            None => {
                self.executed(paddr, len);
                cache.put(rip, paddr, bytes & ((1 << (8 * len)) - 1), decoded);
            }
            Some(at) => {
                self.executed(paddr, here);
                self.executed(at, len - here);
                // No page has these bytes in a row: the entry is never taken again.
                cache.put(rip, paddr, u128::MAX, decoded);
            }
        }
        Ok(())
    }

    /// Refuses what the model does not know of breakpoints: one on data or a port, and one at the
    /// instruction that comes next.
    fn check_breakpoints(&mut self) -> Run<()> {
        let debug = self.cpu.debug;
        if debug.dr7 & DR7_GD != 0 {
            return Err(mode("a guarded debug register"));
        }
        for n in (0..4).filter(|n| debug.dr7 >> (2 * n) & 3 != 0) {
            if debug.dr7 >> (16 + 4 * n) & 0xf != 0 {
                return Err(mode("an armed watchpoint"));
            }
            let address = self.p.register(Register::Dr(n as u8));
            self.p.look(&address, u64::MAX);
            if debug.addresses[n] == self.cpu.regs.rip {
                return Err(mode("a breakpoint that is armed at this instruction"));
            }
        }
        Ok(())
    }

    /// Refuses what the model does not know of the CPU's mode.
    #[inline]
    pub fn check_mode(&mut self) -> Run<()> {
        if self.cpu.debug.dr7 & (DR7_GD | DR7_ENABLED) != 0 {
            self.check_breakpoints()?;
        }
        let s = &self.cpu.sregs;
        if s.cr0 & (CR0_PE | CR0_PG) != CR0_PE | CR0_PG || s.efer & EFER_LMA == 0 {
            return Err(mode("the CPU outside of IA-32e mode"));
        }
        if s.cs.l == 0 {
            return Err(mode("compatibility mode"));
        }
        if s.cr4 & (CR4_UNKNOWN | CR4_LA57) != 0 {
            return Err(mode("a feature that CR4 enables"));
        }
        match self.cpu.cpl() {
            0 => Ok(()),
            3 if s.cr0 & CR0_AM == 0 => Ok(()),
            3 => {
                self.p.look_flags(AC);
                if self.cpu.regs.rflags & AC != 0 { Err(mode("alignment checking")) } else { Ok(()) }
            }
            _ => Err(mode("CPL 1 or 2")),
        }
    }
}
