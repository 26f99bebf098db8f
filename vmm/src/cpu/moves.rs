//! Moves, the stack, and near transfers of control.

use super::decode::{Decoded, Operand, TableOp};
use super::end::{NotUnderstood, Run, coded, gp, vector};
use super::exec::{AX, BP, BX, CX, Exec, SP};
use super::memory::Memory;
use super::rflags::{FIXED, IF, IOPL, RF, VM, ZF};
use super::segment::SS;
use super::trace::Provenance;
use super::value::{Val, ones, sign, sign_extend};
use super::{SHADOW_MOV_SS, flags};

/// The flags that LAHF and SAHF move.
const IN_AH: u64 = 0xd5;
/// VIF and VIP.
const VIRTUAL: u64 = 3 << 19;

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// MOV between general registers, memory and immediates.
    #[inline]
    pub fn mov(&mut self, d: &Decoded) -> Run<()> {
        let v = self.get(d, d.b)?;
        self.set(d, d.a, v)
    }

    /// MOVSX, MOVSXD.
    pub fn mov_signed(&mut self, d: &Decoded) -> Run<()> {
        let size = match d.b {
            Operand::Reg { size, .. } | Operand::Mem { size } => usize::from(size),
            _ => 1,
        };
        let b = self.get(d, d.b)?;
        let upper = self.p.derive(&[(b.w, sign(size))]);
        let v = Val { v: sign_extend(b.v, size), w: P::put(&upper, 0, size, &b.w) };
        self.set(d, d.a, v.low(d.size.into()))
    }

    /// LEA.
    pub fn lea(&mut self, d: &Decoded) -> Run<()> {
        let v = self.effective(&d.mem);
        self.set(d, d.a, v)
    }

    /// XCHG.
    pub fn exchange(&mut self, d: &Decoded) -> Run<()> {
        let a = self.get_to_change(d, d.a)?;
        let b = self.get_to_change(d, d.b)?;
        if let Operand::Mem { .. } = d.b {
            self.set(d, d.b, a)?;
            return self.set(d, d.a, b);
        }
        self.set(d, d.a, b)?;
        self.set(d, d.b, a)
    }

    /// BSWAP.
    pub fn swap_bytes(&mut self, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        if size == 2 {
            return Err(NotUnderstood::Undefined("bswap of 16 bits").into());
        }
        let a = self.get(d, d.a)?;
        let mut r = Val::known(0);
        for i in 0..size {
            r = r.with(size - 1 - i, 1, a.bytes(i, 1));
        }
        self.set(d, d.a, r)
    }

    /// XLAT.
    pub fn translate(&mut self, d: &Decoded) -> Run<()> {
        let mut mem = d.mem;
        (mem.base, mem.index) = (BX, super::decode::Address::NO);
        let base = self.effective(&mem);
        let index = self.part(AX, 1);
        let mut offset = self.look(base).wrapping_add(self.look(index));
        if mem.narrow {
            offset &= ones(4);
        }
        let at = offset.wrapping_add(self.base_of(mem.segment));
        let v = self.load(at, 1, mem.stack)?;
        self.set_part(AX, 1, v);
        Ok(())
    }

    /// PUSH of anything but flags.
    #[inline]
    pub fn push_operand(&mut self, d: &Decoded) -> Run<()> {
        let v = match d.a {
            Operand::Sreg(n) => Val::known(self.sreg(n).selector.into()),
            a => self.get(d, a)?,
        };
        self.push(d.size.into(), v)
    }

    /// POP of anything but flags. An address through RSP is formed after the increment.
    #[inline]
    pub fn pop_operand(&mut self, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let v = self.top(0, size)?;
        match d.a {
            Operand::Sreg(n) => {
                let selector = self.look(v.low(2)) as u16;
                self.load_segment(n, selector)?;
                self.drop_stack(size as u64);
            }
            Operand::Mem { .. } => {
                let mut mem = d.mem;
                if mem.base == SP {
                    mem.disp = mem.disp.wrapping_add(size as u64);
                }
                let at = self.linear(&mem);
                self.store(at, size, v, mem.stack)?;
                self.drop_stack(size as u64);
            }
            a => {
                self.drop_stack(size as u64);
                self.set(d, a, v)?;
            }
        }
        Ok(())
    }

    /// PUSHF: RF and VM are clear in what is pushed.
    pub fn push_flags(&mut self, size: usize) -> Run<()> {
        let v = self.flags(RF | VM);
        self.push(size, v)
    }

    /// POPF.
    pub fn pop_flags(&mut self, size: usize) -> Run<()> {
        let v = self.top(0, size)?;
        let cpl = self.cpu.cpl();
        let mut changed = flags::FREE & ones(size);
        if cpl == 0 {
            changed |= IF | IOPL;
        } else if u64::from(cpl) <= self.look_flags(IOPL)? >> 12 {
            changed |= IF;
        }
        self.move_flags(changed, v);
        if size > 2 {
            self.set_flags(VIRTUAL, 0);
        }
        self.drop_stack(size as u64);
        Ok(())
    }

    /// LEAVE.
    pub fn leave(&mut self, size: usize) -> Run<()> {
        let rbp = self.gpr(BP);
        let at = self.look(rbp);
        let v = self.load(at, size, true)?;
        self.set_gpr(SP, rbp);
        self.drop_stack(size as u64);
        self.set_part(BP, size, v);
        Ok(())
    }

    /// LAHF.
    pub fn flags_to_ah(&mut self) {
        let flags = self.flags(!(IN_AH | FIXED));
        let v = self.gpr(AX).with(1, 1, flags);
        self.set_gpr(AX, v);
    }

    /// SAHF.
    pub fn ah_to_flags(&mut self) {
        let v = self.gpr(AX).bytes(1, 1);
        self.move_flags(IN_AH, v);
    }

    /// A near transfer to a value.
    #[inline]
    fn go(&mut self, target: Val<P>) -> Run<()> {
        if !self.canonical(target) {
            return Err(gp());
        }
        self.next = target;
        Ok(())
    }

    /// JMP.
    pub fn jump(&mut self, d: &Decoded) -> Run<()> {
        let target = self.get(d, d.a)?;
        self.go(target)
    }

    /// CALL. The target is checked before anything is pushed.
    pub fn call(&mut self, d: &Decoded) -> Run<()> {
        let back = self.next;
        let target = self.get(d, d.a)?;
        if !self.canonical(target) {
            return Err(gp());
        }
        self.push(8, back)?;
        self.next = target;
        Ok(())
    }

    /// RET.
    pub fn ret(&mut self, d: &Decoded) -> Run<()> {
        let target = self.top(0, 8)?;
        let extra = if let Operand::Imm(n) = d.a { n & 0xffff } else { 0 };
        self.go(target)?;
        self.drop_stack(8 + extra);
        Ok(())
    }

    /// LOOP, LOOPE, LOOPNE.
    pub fn count_down(&mut self, want: Option<bool>, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let c = self.part(CX, size);
        let left = self.look(c).wrapping_sub(1) & ones(size);
        let zf = match want {
            Some(want) if left != 0 => (self.look_flags(ZF)? != 0) == want,
            _ => true,
        };
        if left != 0 && zf {
            self.jump(d)?;
        }
        self.set_part(CX, size, Val::known(left));
        Ok(())
    }

    /// JRCXZ, JECXZ.
    pub fn jump_on_zero(&mut self, d: &Decoded) -> Run<()> {
        let c = self.part(CX, d.size.into());
        if self.look(c) == 0 { self.jump(d) } else { Ok(()) }
    }

    /// MOV from a segment register: 16 bits in memory, zero-extended in a register.
    pub fn mov_from_sreg(&mut self, d: &Decoded) -> Run<()> {
        let Operand::Sreg(n) = d.b else { return Ok(()) };
        let v = Val::known(self.sreg(n).selector.into());
        self.set(d, d.a, v)
    }

    /// MOV to a segment register. `shadow` is what held events back before.
    pub fn mov_to_sreg(&mut self, d: &Decoded, shadow: u8) -> Run<()> {
        let Operand::Sreg(n) = d.a else { return Ok(()) };
        if n == super::segment::CS {
            return Err(super::end::ud());
        }
        let v = self.get(d, d.b)?.low(2);
        let selector = self.look(v) as u16;
        self.load_segment(n, selector)?;
        if n == SS && shadow & SHADOW_MOV_SS == 0 {
            self.cpu.events.interrupt.shadow = SHADOW_MOV_SS;
        }
        Ok(())
    }

    /// LGDT, LIDT, SGDT, SIDT: a limit of 2 bytes and a base of 8.
    pub fn table(&mut self, op: TableOp, d: &Decoded) -> Run<()> {
        let at = self.linear(&d.mem);
        let stack = d.mem.stack;
        if let TableOp::Sgdt | TableOp::Sidt = op {
            self.check_umip()?;
            let t = if op == TableOp::Sgdt { self.cpu.sregs.gdt } else { self.cpu.sregs.idt };
            self.store(at, 2, Val::known(t.limit.into()), stack)?;
            return self.store(at.wrapping_add(2), 8, Val::known(t.base), stack);
        }
        self.check_cpl0()?;
        let limit = self.load(at, 2, stack)?;
        let base = self.load(at.wrapping_add(2), 8, stack)?;
        let (limit, base) = (self.look(limit) as u16, self.look(base));
        if !super::access::is_canonical(base) {
            return Err(coded(vector::GP, 0));
        }
        let t = super::Table { base, limit };
        *(if op == TableOp::Lgdt { &mut self.cpu.sregs.gdt } else { &mut self.cpu.sregs.idt }) = t;
        Ok(())
    }
}
