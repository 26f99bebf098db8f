//! Instructions of the operating system: control, debug and model-specific registers, bases,
//! tasks, ports (SDM vol. 3, 2.8).

use super::control::*;
use super::decode::{Base, Decoded, Operand};
use super::end::{End, NotUnderstood, Run, gp, mode, ud, vector};
use super::exec::{AX, CX, DX, Exec};
use super::memory::{Kind, Memory};
use super::rflags::{IF, IOPL};
use super::segment::{FS, GS, null};
use super::trace::{Provenance, Register};
use super::value::Val;
use super::{Msrs, SHADOW_STI, msr};

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// #GP(0) unless at CPL 0.
    pub fn check_cpl0(&self) -> Run<()> {
        if self.cpu.cpl() == 0 { Ok(()) } else { Err(gp()) }
    }

    /// UMIP keeps system registers from CPL 3.
    pub fn check_umip(&self) -> Run<()> {
        if self.cpu.cpl() != 0 && self.cpu.sregs.cr4 & CR4_UMIP != 0 { Err(gp()) } else { Ok(()) }
    }

    fn check_iopl(&mut self) -> Run<bool> {
        let cpl = self.cpu.cpl();
        Ok(cpl == 0 || u64::from(cpl) <= self.look_flags(IOPL)? >> 12)
    }

    /// CLI.
    pub fn disable(&mut self) -> Run<()> {
        if !self.check_iopl()? {
            return Err(gp());
        }
        self.set_flags(IF, 0);
        Ok(())
    }

    /// STI. `shadow` is what held events back before.
    pub fn enable(&mut self, shadow: u8) -> Run<()> {
        if !self.check_iopl()? {
            return Err(gp());
        }
        let was = self.look_flags(IF)? != 0;
        self.set_flags(IF, IF);
        if !was && shadow & SHADOW_STI == 0 {
            self.cpu.events.interrupt.shadow = SHADOW_STI;
        }
        Ok(())
    }

    /// MOV from a control register.
    pub fn mov_from_cr(&mut self, d: &Decoded) -> Run<()> {
        let Operand::Cr(n) = d.b else { return Err(ud()) };
        let s = &self.cpu.sregs;
        let v = match n {
            0 => Val::known(s.cr0),
            2 => self.carried(Register::Cr2, s.cr2),
            3 => Val::known(s.cr3),
            4 => Val::known(s.cr4),
            8 => Val::known(s.cr8),
            _ => return Err(ud()),
        };
        self.check_cpl0()?;
        self.set(d, d.a, v)
    }

    /// MOV to a control register.
    pub fn mov_to_cr(&mut self, d: &Decoded) -> Run<()> {
        let Operand::Cr(n) = d.a else { return Err(ud()) };
        if !matches!(n, 0 | 2 | 3 | 4 | 8) {
            return Err(ud());
        }
        self.check_cpl0()?;
        let v = self.get(d, d.b)?;
        if n == 2 {
            self.cpu.sregs.cr2 = v.v;
            self.p.set_register(Register::Cr2, v.w);
            return Ok(());
        }
        let v = self.look(v);
        match n {
            0 => {
                const BITS: u64 = 0xe005_003f;
                let bad = v >> 32 != 0 || v & (CR0_PG | CR0_PE) != CR0_PG | CR0_PE || v & (CR0_NW | CR0_CD) == CR0_NW;
                if bad {
                    return Err(gp());
                }
                self.cpu.sregs.cr0 = v & BITS | 1 << 4;
            }
            3 => {
                let pcid = self.cpu.sregs.cr4 & CR4_PCIDE != 0;
                if v >> 63 == 1 && !pcid {
                    return Err(gp());
                }
                let v = v & !(1 << 63);
                if v >> 40 != 0 {
                    return Err(mode("a page table above 1 TiB, or LAM"));
                }
                self.cpu.sregs.cr3 = v;
            }
            4 => self.set_cr4(v)?,
            _ => {
                if v > 15 {
                    return Err(gp());
                }
                self.cpu.sregs.cr8 = v;
            }
        }
        Ok(())
    }

    fn set_cr4(&mut self, v: u64) -> Run<()> {
        /// VME to OSXMMEXCPT: every processor with a 64-bit mode has them.
        const COMMON: u64 = 0x7ff;
        let old = self.cpu.sregs.cr4;
        if v & CR4_PAE == 0 || (v ^ old) & CR4_LA57 != 0 {
            return Err(gp());
        }
        if v & !old & !COMMON != 0 {
            return Err(mode("a bit of CR4 that CPUID decides on"));
        }
        self.cpu.sregs.cr4 = v;
        Ok(())
    }

    /// The register that MOV means by a number; 4 and 5 stand for 6 and 7.
    fn debug_number(&self, n: u8) -> Run<u8> {
        match n {
            4 | 5 if self.cpu.sregs.cr4 & CR4_DE != 0 => Err(ud()),
            4 | 5 => Ok(n + 2),
            0..=7 => Ok(n),
            _ => Err(ud()),
        }
    }

    /// MOV from a debug register.
    pub fn mov_from_dr(&mut self, d: &Decoded) -> Run<()> {
        let Operand::Dr(n) = d.b else { return Err(ud()) };
        let n = self.debug_number(n)?;
        self.check_cpl0()?;
        let debug = &self.cpu.debug;
        let v = match n {
            6 => self.carried(Register::Dr6, debug.dr6),
            7 => Val::known(debug.dr7),
            _ => self.carried(Register::Dr(n), debug.addresses.get(usize::from(n)).copied().unwrap_or(0)),
        };
        self.set(d, d.a, v)
    }

    /// MOV to a debug register.
    pub fn mov_to_dr(&mut self, d: &Decoded) -> Run<()> {
        let Operand::Dr(n) = d.a else { return Err(ud()) };
        let n = self.debug_number(n)?;
        self.check_cpl0()?;
        let v = self.get(d, d.b)?;
        match n {
            6 | 7 => {
                let v = self.look(v);
                if v >> 32 != 0 {
                    return Err(gp());
                }
                if n == 6 {
                    self.cpu.debug.dr6 = v & 0xe00f | 0xffff_0ff0;
                    self.p.set_register(Register::Dr6, P::KNOWN);
                } else {
                    self.cpu.debug.dr7 = v & 0xffff_2bff | 0x400;
                }
            }
            _ => {
                if let Some(slot) = self.cpu.debug.addresses.get_mut(usize::from(n)) {
                    *slot = v.v;
                }
                self.p.set_register(Register::Dr(n), v.w);
            }
        }
        Ok(())
    }

    /// RDMSR.
    pub fn read_msr(&mut self) -> Run<()> {
        self.check_cpl0()?;
        let c = self.part(CX, 4);
        let number = self.look(c) as u32;
        let s = &self.cpu.sregs;
        let v = match number {
            msr::EFER => Val::known(s.efer),
            msr::APIC_BASE => Val::known(s.apic_base),
            msr::FS_BASE => self.carried(Register::FsBase, s.fs.base),
            msr::GS_BASE => self.carried(Register::GsBase, s.gs.base),
            msr::KERNEL_GS_BASE => self.carried(Register::KernelGs, self.cpu.kernel_gs),
            msr::SPEC_CTRL => return Err(NotUnderstood::Msr(number).into()),
            _ => {
                let i = Msrs::index(number).ok_or(NotUnderstood::Msr(number))?;
                self.carried(Register::Msr(i as u8), self.cpu.msrs.values.get(i).copied().unwrap_or(0))
            }
        };
        self.set_gpr(AX, v.bytes(0, 4));
        self.set_gpr(DX, v.bytes(4, 4));
        Ok(())
    }

    /// WRMSR.
    pub fn write_msr(&mut self) -> Run<()> {
        self.check_cpl0()?;
        let c = self.part(CX, 4);
        let number = self.look(c) as u32;
        let v = self.part(AX, 4).with(4, 4, self.part(DX, 4));
        match number {
            msr::EFER => return self.set_efer(v),
            msr::FS_BASE => return self.set_base(Base::Fs, v),
            msr::GS_BASE => return self.set_base(Base::Gs, v),
            msr::SPEC_CTRL => return Err(NotUnderstood::Msr(number).into()),
            _ => {}
        }
        let index = Msrs::index(number);
        if number != msr::KERNEL_GS_BASE && index.is_none() {
            return Err(NotUnderstood::Msr(number).into());
        }
        match number {
            msr::KERNEL_GS_BASE | 0x175 | 0x176 | 0xc000_0082 | 0xc000_0083 if !self.canonical(v) => return Err(gp()),
            // Some processors ignore the upper half, others fault.
            0x174 | 0xc000_0084 | 0xc000_0103 if self.look(v.bytes(4, 4)) != 0 => {
                return Err(NotUnderstood::Undefined("the upper half of an MSR of 32 bits").into());
            }
            0x277 => {
                let v = self.look(v);
                if v.to_le_bytes().iter().any(|b| !matches!(b, 0 | 1 | 4..=7)) {
                    return Err(gp());
                }
            }
            _ => {}
        }
        let Some(i) = index else {
            self.cpu.kernel_gs = v.v;
            self.p.set_register(Register::KernelGs, v.w);
            return Ok(());
        };
        if let Some(slot) = self.cpu.msrs.values.get_mut(i) {
            *slot = v.v;
        }
        self.p.set_register(Register::Msr(i as u8), v.w);
        Ok(())
    }

    fn set_efer(&mut self, v: Val<P>) -> Run<()> {
        let v = self.look(v);
        let old = self.cpu.sregs.efer;
        let changed = (v ^ old) & !EFER_LMA;
        if changed & EFER_LME != 0 {
            return Err(gp());
        }
        if changed & !(EFER_SCE | EFER_NXE) != 0 {
            return Err(mode("a bit of EFER that CPUID decides on"));
        }
        self.cpu.sregs.efer = old ^ changed;
        Ok(())
    }

    /// Sets the base of FS or GS; #GP(0) where it is not canonical.
    fn set_base(&mut self, base: Base, v: Val<P>) -> Run<()> {
        if !self.canonical(v) {
            return Err(gp());
        }
        let (n, register) = if base == Base::Fs { (FS, Register::FsBase) } else { (GS, Register::GsBase) };
        self.sreg(n).base = v.v;
        self.p.set_register(register, v.w);
        Ok(())
    }

    /// RDFSBASE, RDGSBASE.
    pub fn read_base(&mut self, base: Base, d: &Decoded) -> Run<()> {
        self.check_fsgsbase()?;
        let s = &self.cpu.sregs;
        let v = match base {
            Base::Fs => self.carried(Register::FsBase, s.fs.base),
            _ => self.carried(Register::GsBase, s.gs.base),
        };
        self.set(d, d.a, v)
    }

    /// WRFSBASE, WRGSBASE.
    pub fn write_base(&mut self, base: Base, d: &Decoded) -> Run<()> {
        self.check_fsgsbase()?;
        let v = self.get(d, d.a)?;
        self.set_base(base, v)
    }

    fn check_fsgsbase(&self) -> Run<()> {
        if self.cpu.sregs.cr4 & CR4_FSGSBASE == 0 { Err(ud()) } else { Ok(()) }
    }

    /// SWAPGS.
    pub fn swap_gs(&mut self) -> Run<()> {
        self.check_cpl0()?;
        let (gs, kernel) = (self.p.register(Register::GsBase), self.p.register(Register::KernelGs));
        std::mem::swap(&mut self.cpu.sregs.gs.base, &mut self.cpu.kernel_gs);
        self.p.set_register(Register::GsBase, kernel);
        self.p.set_register(Register::KernelGs, gs);
        Ok(())
    }

    /// LLDT, LTR.
    pub fn load_system(&mut self, d: &Decoded, task: bool) -> Run<()> {
        self.check_cpl0()?;
        let v = self.get(d, d.a)?.low(2);
        let selector = self.look(v) as u16;
        if selector & 0xfffc == 0 {
            if task {
                return Err(gp());
            }
            self.cpu.sregs.ldt = null(selector, 0);
            return Ok(());
        }
        let beyond = u32::from(selector | 7) + 8 > u32::from(self.cpu.sregs.gdt.limit);
        if selector & 4 != 0 || beyond {
            return Err(self.about(vector::GP, selector));
        }
        let mut found = self.descriptor(selector, vector::GP)?;
        let high = self.system_word(found.at.wrapping_add(8), 8, Kind::Descriptor)?;
        if found.is_segment() || found.type_() != if task { 9 } else { 2 } {
            return Err(self.about(vector::GP, selector));
        }
        if !found.is_present() {
            return Err(self.about(vector::NP, selector));
        }
        if task {
            found.raw |= 1 << 41;
            let busy = Val::known(found.raw);
            self.write(found.at, 8, busy, false, super::access::Want::SYSTEM_WRITE, Kind::Descriptor)?;
        }
        let mut segment = found.segment(selector);
        segment.base |= high << 32;
        *(if task { &mut self.cpu.sregs.tr } else { &mut self.cpu.sregs.ldt }) = segment;
        Ok(())
    }

    /// SLDT, STR, SMSW: a value that is always looked at. 16 bits in memory.
    pub fn store_system(&mut self, d: &Decoded, value: u64) -> Run<()> {
        self.check_umip()?;
        let a = if let Operand::Mem { .. } = d.a { Operand::Mem { size: 2 } } else { d.a };
        self.set(d, a, Val::known(value))
    }

    /// CLTS.
    pub fn clear_ts(&mut self) -> Run<()> {
        self.check_cpl0()?;
        self.cpu.sregs.cr0 &= !CR0_TS;
        Ok(())
    }

    /// IN, OUT. `port` is an immediate or DX.
    pub fn port(&mut self, d: &Decoded, port: Operand, write: bool) -> Run<End> {
        let p = self.get(d, port)?;
        let port = self.look(p) as u16;
        if !self.check_iopl()? {
            self.check_bitmap(port, d.size)?;
        }
        if !write {
            return Ok(End::In { port, size: d.size });
        }
        let v = self.part(AX, d.size.into());
        Ok(End::Out { port, size: d.size, value: v.v as u32 })
    }

    /// The TSS's I/O permission bits (SDM vol. 1, 20.5.2).
    fn check_bitmap(&mut self, port: u16, size: u8) -> Run<()> {
        let tr = self.cpu.sregs.tr;
        if tr.limit < 0x67 {
            return Err(gp());
        }
        let map = self.system_word(tr.base.wrapping_add(0x66), 2, Kind::Tss)?;
        let offset = map + u64::from(port / 8);
        if offset + 1 > u64::from(tr.limit) {
            return Err(gp());
        }
        let bits = self.system_word(tr.base.wrapping_add(offset), 2, Kind::Tss)?;
        let mask = ((1u64 << size) - 1) << (port % 8);
        if bits & mask == 0 { Ok(()) } else { Err(gp()) }
    }
}
