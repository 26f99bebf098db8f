//! Transfers that load CS: far jumps, calls and returns, IRETQ, SYSCALL and SYSRET.

use super::control::EFER_SCE;
use super::end::{Run, gp, mode, ud, vector};
use super::exec::{CX, Exec, SP};
use super::flags::ARITHMETIC;
use super::memory::Memory;
use super::rflags::{AC, DF, FIXED, ID, IF, IOPL, NT, RF, TF};
use super::segment::{DS, Descriptor, ES, FS, GS, flat, null};
use super::trace::{Provenance, Register};
use super::value::Val;
use super::{Msrs, Segment};

/// VIF and VIP.
const VIRTUAL: u64 = 3 << 19;
/// R11, by its number.
const R11: u8 = 11;

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// The code segment of a far jump or call; `None` for a gate or a task, which the model
    /// does not know.
    fn far_target(&mut self, selector: u16) -> Run<Descriptor> {
        if selector & 0xfffc == 0 {
            return Err(gp());
        }
        let d = self.descriptor(selector, vector::GP)?;
        if !d.is_segment() && d.type_() == 0xc {
            return Err(mode("a call gate"));
        }
        let cpl = self.cpu.cpl();
        let allowed = if d.is_conforming() { d.dpl() <= cpl } else { d.rpl() <= cpl && d.dpl() == cpl };
        if !d.is_code() || !allowed || d.is_long() && d.is_big() {
            return Err(self.about(vector::GP, selector));
        }
        if !d.is_present() {
            return Err(self.about(vector::NP, selector));
        }
        Ok(d)
    }

    fn check_target(&mut self, d: Descriptor, rip: Val<P>) -> Run<()> {
        let outside = if d.is_long() { !self.canonical(rip) } else { self.look(rip) > u64::from(d.segment(0).limit) };
        if outside { Err(gp()) } else { Ok(()) }
    }

    /// Far JMP or CALL through memory: an offset of `size` bytes and a selector at `at`.
    pub fn far(&mut self, at: u64, size: usize, stack: bool, call: bool) -> Run<()> {
        let offset = self.load(at, size, stack)?;
        let selector = self.load(at.wrapping_add(size as u64), 2, stack)?;
        let selector = self.look(selector) as u16;
        let d = self.far_target(selector)?;
        self.check_target(d, offset)?;
        if call {
            let rsp = self.gpr(SP);
            let top = self.look(rsp);
            let cs = Val::known(self.cpu.sregs.cs.selector.into());
            self.store(top.wrapping_sub(size as u64), size, cs, true)?;
            self.store(top.wrapping_sub(2 * size as u64), size, self.next, true)?;
        }
        let d = self.accessed(d)?;
        if call {
            self.drop_stack((2 * size as u64).wrapping_neg());
        }
        self.cpu.sregs.cs = d.segment(selector & !3 | u16::from(self.cpu.cpl()));
        self.next = offset;
        Ok(())
    }

    /// The code segment that RETF or IRET returns to.
    fn return_target(&mut self, selector: u16) -> Run<Descriptor> {
        if selector & 0xfffc == 0 {
            return Err(gp());
        }
        let d = self.descriptor(selector, vector::GP)?;
        let rpl = d.rpl();
        let allowed = if d.is_conforming() { d.dpl() <= rpl } else { d.dpl() == rpl };
        if !d.is_code() || rpl < self.cpu.cpl() || !allowed || d.is_long() && d.is_big() {
            return Err(self.about(vector::GP, selector));
        }
        if !d.is_present() {
            return Err(self.about(vector::NP, selector));
        }
        Ok(d)
    }

    /// SS for a return to `rpl`.
    fn return_stack(&mut self, selector: u16, code: Descriptor) -> Run<Segment> {
        if selector & 0xfffc == 0 && !code.is_long() {
            return Err(gp());
        }
        self.stack_segment(selector, code.rpl(), vector::GP)
    }

    /// Makes DS, ES, FS and GS null where `cpl` may not use them.
    fn drop_segments(&mut self, cpl: u8) {
        for n in [ES, DS, FS, GS] {
            if self.sreg(n).is_beyond(cpl) {
                self.set_sreg(n, null(0, 0));
            }
        }
    }

    /// RETF, with `extra` bytes of arguments to drop.
    pub fn far_return(&mut self, size: usize, extra: u64) -> Run<()> {
        let step = size as u64;
        let rip = self.top(0, size)?;
        let selector = self.top(step, size)?;
        let selector = self.look(selector) as u16;
        let code = self.return_target(selector)?;
        let outer = code.rpl() > self.cpu.cpl();
        let mut stack = None;
        if outer {
            let rsp = self.top(2 * step + extra, size)?;
            let ss = self.top(3 * step + extra, size)?;
            let ss = self.look(ss) as u16;
            stack = Some((rsp, self.return_stack(ss, code)?));
        }
        self.check_target(code, rip)?;
        let code = self.accessed(code)?;
        self.cpu.sregs.cs = code.segment(selector);
        self.next = rip;
        match stack {
            Some((rsp, ss)) => {
                self.cpu.sregs.ss = ss;
                self.set_gpr(SP, rsp);
                self.drop_stack(extra);
                self.drop_segments(code.rpl());
            }
            None => self.drop_stack(2 * step + extra),
        }
        Ok(())
    }

    /// IRETQ in 64-bit mode (SDM vol. 2).
    pub fn iret(&mut self) -> Run<()> {
        let cpl = self.cpu.cpl();
        if self.look_flags(NT)? != 0 {
            return Err(gp());
        }
        let rip = self.top(0, 8)?;
        let selector = self.top(8, 8)?;
        let flags = self.top(16, 8)?;
        let rsp = self.top(24, 8)?;
        let ss = self.top(32, 8)?;
        let selector = self.look(selector) as u16;
        let code = self.return_target(selector)?;
        let ss = self.look(ss) as u16;
        let stack = self.return_stack(ss, code)?;
        self.check_target(code, rip)?;
        let code = self.accessed(code)?;
        self.cpu.sregs.cs = code.segment(selector);
        self.cpu.sregs.ss = stack;
        self.set_gpr(SP, rsp);
        let mut changed = ARITHMETIC | TF | DF | NT | RF | AC | ID;
        if cpl == 0 {
            changed |= IOPL | IF | VIRTUAL;
        } else if u64::from(cpl) <= self.look_flags(IOPL)? >> 12 {
            changed |= IF;
        }
        self.move_flags(changed, flags);
        if code.rpl() > cpl {
            self.drop_segments(code.rpl());
        }
        self.cpu.events.nmi.masked = 0;
        self.next = rip;
        Ok(())
    }

    fn msr(&self, index: usize) -> Val<P> {
        let value = self.cpu.msrs.values.get(index).copied().unwrap_or(0);
        self.carried(Register::Msr(index as u8), value)
    }

    /// SYSCALL from 64-bit mode.
    pub fn syscall(&mut self) -> Run<()> {
        if self.cpu.sregs.efer & EFER_SCE == 0 {
            return Err(ud());
        }
        let star = self.msr(Msrs::STAR);
        let mask = self.msr(Msrs::FMASK);
        let (star, mask) = (self.look(star), self.look(mask));
        self.set_gpr(CX, self.next);
        let flags = self.flags(RF);
        self.set_gpr(R11, flags);
        self.next = self.msr(Msrs::LSTAR);
        let selector = (star >> 32) as u16 & 0xfffc;
        self.cpu.sregs.cs = flat(selector, true, 0, true);
        self.cpu.sregs.ss = flat(selector.wrapping_add(8), false, 0, false);
        self.set_flags(mask & !FIXED | RF, 0);
        Ok(())
    }

    /// SYSRET to 64-bit mode, or to compatibility mode.
    pub fn sysret(&mut self, long: bool) -> Run<()> {
        const FLAGS: u64 = 0x3c_7fd7;
        if self.cpu.sregs.efer & EFER_SCE == 0 {
            return Err(ud());
        }
        if self.cpu.cpl() != 0 {
            return Err(gp());
        }
        let target = self.part(CX, if long { 8 } else { 4 });
        if !self.canonical(target) {
            return Err(gp());
        }
        let star = self.msr(Msrs::STAR);
        let selector = (self.look(star) >> 48) as u16;
        let flags = self.gpr(R11);
        self.move_flags(FLAGS & !FIXED, flags);
        self.set_flags(RF | super::rflags::VM, 0);
        let code = if long { selector.wrapping_add(16) } else { selector } | 3;
        self.cpu.sregs.cs = flat(code, true, 3, long);
        self.cpu.sregs.ss = flat(selector.wrapping_add(8) | 3, false, 3, false);
        self.next = target;
        Ok(())
    }
}
