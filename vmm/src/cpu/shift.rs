//! Shifts and rotates (SDM vol. 1, 7.3.6).
//!
//! Flags that are undefined get what Intel's processors give them, and are marked.

use super::decode::{Decoded, Shift};
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
        let top = |v: u64| v & sign(size) != 0;
        let next_to_top = r & sign(size) >> 1 != 0;
        let of = match op {
            Shift::Rol | Shift::Rcl | Shift::Shl => top(r) != cf,
            Shift::Ror | Shift::Rcr => top(r) != next_to_top,
            Shift::Shr => top(a.v) && count == 1,
            Shift::Sar => false,
        };
        let w = self.p.derive(&[(a.w, ones(size))]);
        self.set(d, d.a, Val { v: r, w })?;
        let mut undefined = if count == 1 { 0 } else { OF };
        let mut flags = when(cf, CF) | when(of, OF);
        let mut keep = 0;
        if matches!(op, Shift::Shl | Shift::Shr | Shift::Sar) {
            flags |= of_result(r, size) | when(self.knobs.undefined.shift_sets_af, AF);
            undefined |= AF;
            if count as usize >= 8 * size && op != Shift::Sar {
                undefined |= CF;
            }
        } else {
            keep = SF | ZF | AF | PF;
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
        let (a128, b128) = (u128::from(a.v), u128::from(b.v));
        let (r, cf) = if left {
            (((a128 << bits | b128) << count >> bits) as u64 & ones(size), a.v >> (bits - count) & 1 == 1)
        } else {
            (((b128 << bits | a128) >> count) as u64 & ones(size), a.v >> (count - 1) & 1 == 1)
        };
        let w = self.both(&a, &b, size);
        self.set(d, d.a, Val { v: r, w })?;
        let of = (a.v ^ r) & sign(size) != 0;
        let undefined = AF | if count == 1 { 0 } else { OF };
        let af = when(self.knobs.undefined.shift_sets_af, AF);
        self.computed_flags(of_result(r, size) | when(cf, CF) | when(of, OF) | af, 0, undefined, &w);
        Ok(())
    }
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
