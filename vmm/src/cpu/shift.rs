//! Shifts and rotates (SDM vol. 1, 7.3.6).
//!
//! Flags that are undefined get what this host gives them, and are marked.

use super::Overflow;
use super::decode::{Decoded, Operand, Shift};
use super::end::{NotUnderstood, Run};
use super::exec::Exec;
use super::flags::{of_result, when};
use super::memory::Memory;
use super::rflags::{AF, CF, OF, PF, SF, ZF};
use super::trace::Provenance;
use super::value::{Val, ones, sign, sign_extend};

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// The masked count. It is looked at.
    fn count(&mut self, d: &Decoded, o: super::decode::Operand) -> Run<u32> {
        let c = self.get(d, o)?;
        let mask = if d.size == 8 { 0x3f } else { 0x1f };
        self.p.look(&c.w, mask);
        Ok((c.v & mask) as u32)
    }

    /// What OF is after a shift by this count.
    fn overflow(&self, op: Shift, count: u32, d: &Decoded) -> Overflow {
        let of = self.undefined().overflow;
        let all_the_way_round = || count.is_multiple_of(8 * u32::from(d.size) + 1);
        let of_a_register = matches!(d.a, Operand::Reg { .. } | Operand::High { .. });
        match op {
            _ if count == 1 => Overflow::FirstStep,
            Shift::Shl | Shift::Shr | Shift::Sar => of.shift,
            Shift::Rol | Shift::Ror if of_a_register && matches!(d.b, Operand::Imm(_)) => of.rotate_by_constant,
            Shift::Rol | Shift::Ror => of.rotate,
            Shift::Rcl | Shift::Rcr if all_the_way_round() => Overflow::Kept,
            Shift::Rcl | Shift::Rcr => of.through_carry,
        }
    }

    /// ROL, ROR, RCL, RCR, SHL, SHR, SAR.
    pub fn shift(&mut self, op: Shift, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let count = self.count(d, d.b)?;
        let a = self.get_to_change(d, d.a)?;
        if count == 0 {
            // A 32-bit register loses its upper half all the same.
            return self.set(d, d.a, a);
        }
        let carry = if matches!(op, Shift::Rcl | Shift::Rcr) { self.look_flags(CF)? } else { 0 };
        let (r, cf) = shifted(op, a.v, count, carry, size);
        let overflow = self.overflow(op, count, d);
        let of = match overflow {
            Overflow::FirstStep => overflows(op, a.v, carry == 1, size),
            Overflow::LastStep => {
                let (rest, carry) = shifted(op, a.v, count - 1, carry, size);
                overflows(op, rest, carry, size)
            }
            Overflow::Kept => self.cpu.regs.rflags & OF != 0,
        };
        let w = self.p.derive(&[(a.w, ones(size))]);
        self.set(d, d.a, Val { v: r, w })?;
        let mut undefined = if count == 1 { 0 } else { OF };
        let mut flags = when(cf, CF) | when(of, OF);
        let mut keep = if overflow == Overflow::Kept { OF } else { 0 };
        if matches!(op, Shift::Shl | Shift::Shr | Shift::Sar) {
            flags |= of_result(r, size) | when(self.undefined().shift_sets_af, AF);
            undefined |= AF;
            if count as usize >= 8 * size && op != Shift::Sar {
                undefined |= CF;
            }
        } else {
            keep |= SF | ZF | AF | PF;
        }
        self.computed_flags(flags, keep, undefined, &w);
        Ok(())
    }

    /// SHLD, SHRD.
    pub fn double_shift(&mut self, left: bool, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let bits = 8 * size as u32;
        let count = self.count(d, d.c)?;
        let b = self.get(d, d.b)?;
        let a = self.get_to_change(d, d.a)?;
        if count == 0 {
            return self.set(d, d.a, a);
        }
        if count > bits {
            return Err(NotUnderstood::Undefined("a double shift by more than the operand has bits").into());
        }
        let r = double_shifted(left, a.v, b.v, count, size);
        let cf = if left { a.v >> (bits - count) & 1 == 1 } else { a.v >> (count - 1) & 1 == 1 };
        let w = self.both(&a, &b, size);
        self.set(d, d.a, Val { v: r, w })?;
        let overflow = match count {
            1 => Overflow::FirstStep,
            _ => self.undefined().overflow.double_shift,
        };
        let to = |count| double_shifted(left, a.v, b.v, count, size);
        let of = match overflow {
            Overflow::FirstStep => (a.v ^ to(1)) & sign(size) != 0,
            Overflow::LastStep => (to(count - 1) ^ r) & sign(size) != 0,
            Overflow::Kept => self.cpu.regs.rflags & OF != 0,
        };
        let keep = if overflow == Overflow::Kept { OF } else { 0 };
        let undefined = AF | if count == 1 { 0 } else { OF };
        let af = when(self.undefined().shift_sets_af, AF);
        self.computed_flags(of_result(r, size) | when(cf, CF) | when(of, OF) | af, keep, undefined, &w);
        Ok(())
    }
}

/// Whether OF is set after a shift by one.
fn overflows(op: Shift, a: u64, carry: bool, size: usize) -> bool {
    let top = a & sign(size) != 0;
    match op {
        Shift::Rol | Shift::Rcl | Shift::Shl => top != (a & sign(size) >> 1 != 0),
        Shift::Ror => top != (a & 1 == 1),
        Shift::Rcr => top != carry,
        Shift::Shr => top,
        Shift::Sar => false,
    }
}

/// `a` shifted by up to as many bits as it has, and filled up from `b`.
fn double_shifted(left: bool, a: u64, b: u64, count: u32, size: usize) -> u64 {
    let bits = 8 * size as u32;
    let (a, b) = (u128::from(a), u128::from(b));
    let r = if left { (a << bits | b) << count >> bits } else { (b << bits | a) >> count };
    r as u64 & ones(size)
}

/// The result and the last bit shifted out, for a count that is not zero.
fn shifted(op: Shift, a: u64, count: u32, carry: u64, size: usize) -> (u64, bool) {
    let bits = 8 * size as u32;
    let mask = ones(size);
    let a128 = u128::from(a & mask);
    match op {
        Shift::Shl => {
            let wide = a128 << count;
            (wide as u64 & mask, wide >> bits & 1 == 1)
        }
        Shift::Shr => {
            let r = (a128 >> count) as u64;
            (r, a128 >> (count - 1) & 1 == 1)
        }
        Shift::Sar => {
            let wide = i128::from(sign_extend(a, size) as i64);
            ((wide >> count) as u64 & mask, wide >> (count - 1) & 1 == 1)
        }
        Shift::Rol => {
            let n = count % bits;
            let r = (a128 << n | a128 >> (bits - n)) as u64 & mask;
            (r, r & 1 == 1)
        }
        Shift::Ror => {
            let n = count % bits;
            let r = (a128 >> n | a128 << (bits - n)) as u64 & mask;
            (r, r & sign(size) != 0)
        }
        Shift::Rcl | Shift::Rcr => {
            let (mut r, mut c) = (a & mask, carry);
            for _ in 0..count % (bits + 1) {
                if op == Shift::Rcl {
                    let out = u64::from(r & sign(size) != 0);
                    (r, c) = ((r << 1 | c) & mask, out);
                } else {
                    let out = r & 1;
                    (r, c) = (r >> 1 | if c == 1 { sign(size) } else { 0 }, out);
                }
            }
            (r, c == 1)
        }
    }
}
