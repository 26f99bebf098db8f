//! One instruction in execution: its access to registers, flags and memory.

use super::access::{Want, is_canonical};
use super::decode::{Address, Base, Decoded, Operand};
use super::end::{NotUnderstood, Run, coded, vector};
use super::flags::{self, ARITHMETIC};
use super::memory::{Kind, Memory};
use super::trace::{Provenance, Register};
use super::value::{Val, ones};
use super::{Cpu, Knobs};

pub(super) const CX: u8 = 1;
pub(super) const DX: u8 = 2;
pub(super) const BX: u8 = 3;
pub(super) const SP: u8 = 4;
pub(super) const BP: u8 = 5;
pub(super) const SI: u8 = 6;
pub(super) const DI: u8 = 7;
pub(super) const AX: u8 = 0;

/// The parts that an instruction works on.
pub(super) struct Exec<'a, M, P: Provenance> {
    pub cpu: &'a mut Cpu,
    pub mem: &'a mut M,
    pub p: &'a mut P,
    pub knobs: &'a Knobs,
    /// RIP of the next instruction, where this one does not say otherwise.
    pub next: Val<P>,
    /// EXT of an error code: 1 while an event is delivered that no instruction asked for.
    pub ext: u32,
}

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// Takes note that the value is looked at, and gives it.
    #[inline]
    pub fn look(&mut self, v: Val<P>) -> u64 {
        self.p.look(&v.w, u64::MAX);
        v.v
    }

    /// Whether a value is a canonical address. That it is, or is not, is all that is looked at.
    #[inline]
    pub fn canonical(&mut self, v: Val<P>) -> bool {
        let held = is_canonical(v.v);
        self.p.canonical(&v.w, held);
        held
    }

    /// A register whose provenance is carried.
    #[inline]
    pub fn carried(&self, r: Register, v: u64) -> Val<P> {
        Val { v, w: self.p.register(r) }
    }

    /// All of a general register.
    #[inline]
    pub fn gpr(&self, n: u8) -> Val<P> {
        self.carried(Register::Gpr(n), self.cpu.gpr(n))
    }

    /// Sets all of a general register.
    #[inline]
    pub fn set_gpr(&mut self, n: u8, v: Val<P>) {
        *self.cpu.gpr_mut(n) = v.v;
        self.p.set_register(Register::Gpr(n), v.w);
    }

    /// Sets the low `size` bytes of a general register; 4 clear the rest, 1 and 2 keep it.
    #[inline]
    pub fn set_part(&mut self, n: u8, size: usize, v: Val<P>) {
        let v = if size >= 4 { v.low(size) } else { self.gpr(n).with(0, size, v) };
        self.set_gpr(n, v);
    }

    /// The low `size` bytes of a general register.
    #[inline]
    pub fn part(&self, n: u8, size: usize) -> Val<P> {
        self.gpr(n).low(size)
    }

    /// Reads an operand, zero-extended from its own size.
    #[inline]
    pub fn get(&mut self, d: &Decoded, o: Operand) -> Run<Val<P>> {
        Ok(match o {
            Operand::Reg { n, size } => self.part(n, usize::from(size)),
            Operand::High { n } => self.gpr(n).bytes(1, 1),
            Operand::Imm(v) => Val::known(v),
            Operand::Mem { size } => {
                let at = self.linear(&d.mem);
                self.load(at, size.into(), d.mem.stack)?
            }
            _ => return Err(NotUnderstood::Instruction(d.mnemonic).into()),
        })
    }

    /// Reads an operand that the instruction also writes.
    #[inline]
    pub fn get_to_change(&mut self, d: &Decoded, o: Operand) -> Run<Val<P>> {
        if let Operand::Mem { size } = o {
            let at = self.linear(&d.mem);
            return self.load_to_change(at, size.into(), d.mem.stack);
        }
        self.get(d, o)
    }

    /// Writes an operand.
    #[inline]
    pub fn set(&mut self, d: &Decoded, o: Operand, v: Val<P>) -> Run<()> {
        match o {
            Operand::Reg { n, size } => self.set_part(n, usize::from(size), v),
            Operand::High { n } => {
                let v = self.gpr(n).with(1, 1, v);
                self.set_gpr(n, v);
            }
            Operand::Mem { size } => {
                let at = self.linear(&d.mem);
                self.store(at, size.into(), v, d.mem.stack)?;
            }
            _ => return Err(NotUnderstood::Instruction(d.mnemonic).into()),
        }
        Ok(())
    }

    /// The offset that an address expression gives, without the segment's base.
    #[inline]
    pub fn effective(&mut self, a: &Address) -> Val<P> {
        let mut v = Val::known(a.disp);
        if a.base != Address::NO {
            let base = self.gpr(a.base);
            v = Val { v: base.v.wrapping_add(a.disp), w: self.p.offset(&base.w, a.disp) };
        }
        if a.index != Address::NO {
            let index = self.gpr(a.index);
            let sum = v.v.wrapping_add(index.v << a.shift);
            v = Val { v: sum, w: self.p.derive(&[(v.w, u64::MAX), (index.w, u64::MAX >> a.shift)]) };
        }
        if a.narrow { v.low(4) } else { v }
    }

    /// The linear address of a memory operand. It is looked at.
    #[inline]
    pub fn linear(&mut self, a: &Address) -> u64 {
        let v = self.effective(a);
        let offset = self.look(v);
        offset.wrapping_add(self.base_of(a.segment))
    }

    /// The base of a segment, looked at.
    #[inline]
    pub fn base_of(&mut self, segment: Base) -> u64 {
        match segment {
            Base::None => 0,
            Base::Fs => self.look(self.carried(Register::FsBase, self.cpu.sregs.fs.base)),
            Base::Gs => self.look(self.carried(Register::GsBase, self.cpu.sregs.gs.base)),
        }
    }

    /// Reads `size` bytes (at most 8) at a linear address with the rights of the code.
    #[inline]
    pub fn load(&mut self, at: u64, size: usize, stack: bool) -> Run<Val<P>> {
        let want = Want::read(self.cpu.cpl());
        self.read(at, size, stack, want, Kind::Data)
    }

    /// The same of an operand that will be written: a fault says so.
    #[inline]
    pub fn load_to_change(&mut self, at: u64, size: usize, stack: bool) -> Run<Val<P>> {
        let want = Want::write(self.cpu.cpl());
        self.read(at, size, stack, want, Kind::Data)
    }

    /// Writes the low `size` bytes of `v`, with the rights of the code.
    #[inline]
    pub fn store(&mut self, at: u64, size: usize, v: Val<P>, stack: bool) -> Run<()> {
        let want = Want::write(self.cpu.cpl());
        self.write(at, size, v, stack, want, Kind::Data)
    }

    /// Reads for any purpose, over a page's boundary, too.
    #[inline]
    pub fn read(&mut self, at: u64, size: usize, stack: bool, want: Want, kind: Kind) -> Run<Val<P>> {
        self.check_canonical(at, size, stack)?;
        let first = (4096 - (at & 0xfff) as usize).min(size);
        let paddr = self.walk(at, want)?;
        if first == size {
            return self.read_physical(kind, paddr, size);
        }
        let rest = self.walk(at.wrapping_add(first as u64), want)?;
        let low = self.read_bytes(kind, paddr, first)?;
        let high = self.read_bytes(kind, rest, size - first)?;
        Ok(low.with(first, size - first, high))
    }

    /// Writes for any purpose, over a page's boundary, too: all or nothing.
    #[inline]
    pub fn write(&mut self, at: u64, size: usize, v: Val<P>, stack: bool, want: Want, kind: Kind) -> Run<()> {
        self.check_canonical(at, size, stack)?;
        let first = (4096 - (at & 0xfff) as usize).min(size);
        let paddr = self.walk(at, want)?;
        if first == size {
            return self.write_physical(kind, paddr, size, v);
        }
        let rest = self.walk(at.wrapping_add(first as u64), want)?;
        for i in 0..size {
            let to = if i < first { paddr + i as u64 } else { rest + (i - first) as u64 };
            self.write_physical(kind, to, 1, v.bytes(i, 1))?;
        }
        Ok(())
    }

    fn check_canonical(&self, at: u64, size: usize, stack: bool) -> Run<()> {
        if is_canonical(at) && is_canonical(at.wrapping_add(size as u64 - 1)) {
            return Ok(());
        }
        Err(coded(if stack { vector::SS } else { vector::GP }, 0))
    }

    /// Fewer bytes than a word, one by one.
    fn read_bytes(&mut self, kind: Kind, paddr: u64, size: usize) -> Run<Val<P>> {
        let mut v = Val::known(0);
        for i in 0..size {
            let byte = self.read_physical(kind, paddr + i as u64, 1)?;
            v = v.with(i, 1, byte);
        }
        Ok(v)
    }

    #[inline]
    fn read_physical(&mut self, kind: Kind, paddr: u64, size: usize) -> Run<Val<P>> {
        let v = self.mem.read(kind, paddr, size).ok_or(NotUnderstood::Memory(paddr))?;
        Ok(Val { v, w: self.p.memory(paddr, size) })
    }

    #[inline]
    fn write_physical(&mut self, kind: Kind, paddr: u64, size: usize, v: Val<P>) -> Run<()> {
        let value = v.v & ones(size);
        self.mem.write(kind, paddr, size, value).ok_or(NotUnderstood::Memory(paddr))?;
        self.p.set_memory(paddr, size, v.w);
        Ok(())
    }

    /// RFLAGS to be moved, with the flags of `clear` clear. Those that are undefined go as
    /// they are.
    #[inline]
    pub fn flags(&mut self, clear: u64) -> Val<P> {
        Val { v: self.cpu.regs.rflags & !clear, w: self.p.flags(clear) }
    }

    /// The flags of `mask`, looked at. Those undefined are not understood.
    #[inline]
    pub fn look_flags(&mut self, mask: u64) -> Run<u64> {
        if self.cpu.undefined & mask != 0 {
            return Err(NotUnderstood::UndefinedFlags(self.cpu.undefined & mask).into());
        }
        self.p.look_flags(mask);
        Ok(self.cpu.regs.rflags & mask)
    }

    /// Moves flags in from the same places of a value.
    #[inline]
    pub fn move_flags(&mut self, mask: u64, v: Val<P>) {
        self.put_flags(mask, v.v);
        self.p.move_flags(mask, &v.w);
    }

    /// Sets flags to constants.
    #[inline]
    pub fn set_flags(&mut self, mask: u64, value: u64) {
        self.move_flags(mask, Val::known(value));
    }

    /// What this host leaves in undefined flags here.
    pub fn undefined(&self) -> super::Undefined {
        match self.cpu.cpl() {
            3 => self.knobs.undefined_at_cpl3,
            _ => self.knobs.undefined,
        }
    }

    /// Sets the arithmetic flags, but those of `keep`, from a computation of a result. Those of
    /// `undefined` are marked, whether they are set or kept.
    #[inline]
    pub fn computed_flags(&mut self, value: u64, keep: u64, undefined: u64, result: &P::Word) {
        let mask = ARITHMETIC & !keep;
        self.put_flags(mask, value);
        self.cpu.undefined |= undefined;
        self.p.derive_flags(mask, result);
    }

    /// Sets numbers only.
    #[inline]
    pub fn put_flags(&mut self, mask: u64, value: u64) {
        self.cpu.regs.rflags = self.cpu.regs.rflags & !mask | value & mask;
        self.cpu.undefined &= !mask;
    }

    /// Whether a condition holds. Its flags are looked at.
    #[inline]
    pub fn holds(&mut self, condition: super::Condition) -> Run<bool> {
        let mask = flags::tested(condition);
        if self.cpu.undefined & mask != 0 {
            return Err(NotUnderstood::UndefinedFlags(self.cpu.undefined & mask).into());
        }
        let held = flags::holds(condition, self.cpu.regs.rflags);
        self.p.condition(condition, mask, held);
        Ok(held)
    }

    /// Pushes `size` bytes.
    #[inline]
    pub fn push(&mut self, size: usize, v: Val<P>) -> Run<()> {
        let rsp = self.gpr(SP);
        let at = self.look(rsp).wrapping_sub(size as u64);
        self.store(at, size, v, true)?;
        let w = self.p.offset(&rsp.w, (size as u64).wrapping_neg());
        self.set_gpr(SP, Val { v: at, w });
        Ok(())
    }

    /// The top of the stack, which stays: the pop is done by [`Exec::drop_stack`].
    #[inline]
    pub fn top(&mut self, depth: u64, size: usize) -> Run<Val<P>> {
        let rsp = self.gpr(SP);
        let at = self.look(rsp).wrapping_add(depth);
        self.load(at, size, true)
    }

    /// Takes `bytes` from the stack.
    #[inline]
    pub fn drop_stack(&mut self, bytes: u64) {
        let rsp = self.gpr(SP);
        let w = self.p.offset(&rsp.w, bytes);
        self.set_gpr(SP, Val { v: rsp.v.wrapping_add(bytes), w });
    }
}
