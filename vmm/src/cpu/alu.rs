//! Integer arithmetic and logic (SDM vol. 1, 7.3.2 to 7.3.5).

use super::decode::{Alu, Decoded, Operand};
use super::end::{Run, plain, vector};
use super::exec::{AX, BX, DX, Exec};
use super::flags::{self, ARITHMETIC, of_result, when};
use super::memory::Memory;
use super::rflags::{AF, CF, OF, PF, SF, ZF};
use super::trace::Provenance;
use super::value::{Val, ones, sign, sign_extend};

impl<M: Memory, P: Provenance> Exec<'_, M, P> {
    /// The provenance of what two values give.
    pub fn both(&mut self, a: &Val<P>, b: &Val<P>, size: usize) -> P::Word {
        self.p.derive(&[(a.w, ones(size)), (b.w, ones(size))])
    }

    /// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST.
    #[inline]
    pub fn alu(&mut self, op: Alu, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let writes = !matches!(op, Alu::Cmp | Alu::Test);
        let b = self.get(d, d.b)?.low(size);
        let a = if writes { self.get_to_change(d, d.a)? } else { self.get(d, d.a)? };
        let carry = if matches!(op, Alu::Adc | Alu::Sbb) { self.look_flags(CF)? } else { 0 };
        let same = matches!(op, Alu::Sub | Alu::Xor) && d.a == d.b && !matches!(d.a, Operand::Mem { .. });
        let (r, flags) = match op {
            Alu::Add | Alu::Adc => flags::add(a.v, b.v, carry, size),
            Alu::Sub | Alu::Sbb | Alu::Cmp => flags::sub(a.v, b.v, carry, size),
            Alu::And | Alu::Test => (a.v & b.v, of_result(a.v & b.v, size)),
            Alu::Or => (a.v | b.v, of_result(a.v | b.v, size)),
            Alu::Xor => (a.v ^ b.v, of_result(a.v ^ b.v, size)),
        };
        let undefined = if matches!(op, Alu::And | Alu::Or | Alu::Xor | Alu::Test) { AF } else { 0 };
        let w = if same { P::KNOWN } else { self.provenance(op, size, &a, &b) };
        if writes {
            self.set(d, d.a, Val { v: r, w })?;
        }
        if matches!(op, Alu::Sub | Alu::Cmp) && !same {
            self.put_flags(ARITHMETIC, flags);
            self.p.compare_flags(ARITHMETIC, size, (&a.w, a.v), (&b.w, b.v));
        } else {
            let result = if same { P::KNOWN } else { self.relevant(op, size, &a, &b) };
            self.computed_flags(flags, 0, undefined, &result);
        }
        Ok(())
    }

    /// Which bits the result's flags depend on.
    fn relevant(&mut self, op: Alu, size: usize, a: &Val<P>, b: &Val<P>) -> P::Word {
        let all = ones(size);
        let (mut of_a, mut of_b) = (all, all);
        match op {
            Alu::And | Alu::Test => {
                of_a = if self.p.is_known(&b.w, size) { b.v & all } else { all };
                of_b = if self.p.is_known(&a.w, size) { a.v & all } else { all };
            }
            Alu::Or => {
                of_a = if self.p.is_known(&b.w, size) { !b.v & all } else { all };
                of_b = if self.p.is_known(&a.w, size) { !a.v & all } else { all };
            }
            _ => {}
        }
        self.p.derive(&[(a.w, of_a), (b.w, of_b)])
    }

    /// The provenance of a result.
    fn provenance(&mut self, op: Alu, size: usize, a: &Val<P>, b: &Val<P>) -> P::Word {
        let (known_a, known_b) = (self.p.is_known(&a.w, size), self.p.is_known(&b.w, size));
        match op {
            Alu::Add if size == 8 && known_b => self.p.offset(&a.w, b.v),
            Alu::Add if size == 8 && known_a => self.p.offset(&b.w, a.v),
            Alu::Sub if size == 8 && known_b => self.p.offset(&a.w, b.v.wrapping_neg()),
            Alu::And if known_b || known_a => {
                let (value, mask) = if known_b { (a, b.v) } else { (b, a.v) };
                let other = self.p.derive(&[(value.w, mask & ones(size))]);
                P::keep(&value.w, mask, &other)
            }
            Alu::Or if known_b || known_a => {
                let (value, mask) = if known_b { (a, !b.v) } else { (b, !a.v) };
                let other = self.p.derive(&[(value.w, mask & ones(size))]);
                P::keep(&value.w, mask, &other)
            }
            _ => self.both(a, b, size),
        }
    }

    /// INC, DEC: CF stays.
    pub fn increment(&mut self, down: bool, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let a = self.get_to_change(d, d.a)?;
        let (r, flags) = if down { flags::sub(a.v, 1, 0, size) } else { flags::add(a.v, 1, 0, size) };
        let result = self.p.derive(&[(a.w, ones(size))]);
        let w = match size {
            8 => self.p.offset(&a.w, if down { u64::MAX } else { 1 }),
            _ => result,
        };
        self.set(d, d.a, Val { v: r, w })?;
        self.computed_flags(flags, CF, 0, &result);
        Ok(())
    }

    /// NEG.
    pub fn negate(&mut self, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let a = self.get_to_change(d, d.a)?;
        let (r, flags) = flags::sub(0, a.v, 0, size);
        let w = self.p.derive(&[(a.w, ones(size))]);
        self.set(d, d.a, Val { v: r, w })?;
        self.computed_flags(flags, 0, 0, &w);
        Ok(())
    }

    /// NOT: no flags.
    pub fn invert(&mut self, d: &Decoded) -> Run<()> {
        let a = self.get_to_change(d, d.a)?;
        let w = self.p.derive(&[(a.w, ones(d.size.into()))]);
        self.set(d, d.a, Val { v: !a.v, w })
    }

    /// MUL, and IMUL of one operand: the product is in RDX:RAX or AX.
    pub fn multiply(&mut self, signed: bool, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let b = self.get(d, d.a)?;
        let a = self.part(AX, size);
        let (low, high, fits) = product(a.v, b.v, size, signed);
        let w = self.both(&a, &b, size);
        if size == 1 {
            self.set_part(AX, 2, Val { v: low & 0xff | high << 8, w });
        } else {
            self.set_part(AX, size, Val { v: low, w });
            self.set_part(DX, size, Val { v: high, w });
        }
        self.product_flags(low, fits, size, &w);
        Ok(())
    }

    /// CF and OF say whether the product fits; the others are undefined. Intel's processors
    /// derive SF and PF from the low half and clear AF and ZF.
    fn product_flags(&mut self, low: u64, fits: bool, size: usize, w: &P::Word) {
        let others = SF | ZF | AF | PF;
        let keep = if self.undefined().product_keeps { others } else { 0 };
        let flags = when(!fits, CF | OF) | of_result(low, size) & (SF | PF);
        self.computed_flags(flags, keep, others, w);
    }

    /// IMUL of two or three operands.
    pub fn multiply_into(&mut self, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let three = d.c != Operand::None;
        let a = self.get(d, if three { d.c } else { d.a })?.low(size);
        let b = self.get(d, d.b)?;
        let (low, _, fits) = product(a.v, b.v, size, true);
        let w = self.both(&a, &b, size);
        self.set(d, d.a, Val { v: low, w })?;
        self.product_flags(low, fits, size, &w);
        Ok(())
    }

    /// DIV, IDIV. All flags are undefined; they are left as they were.
    pub fn divide(&mut self, signed: bool, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let divisor = self.get(d, d.a)?;
        let divisor = self.look(divisor);
        let (low, high) = if size == 1 {
            (self.part(AX, 1), self.gpr(AX).bytes(1, 1))
        } else {
            (self.part(AX, size), self.part(DX, size))
        };
        let (low, high) = (self.look(low), self.look(high));
        let (quotient, rest) = quotient(high, low, divisor, size, signed).ok_or(plain(vector::DE))?;
        if size == 1 {
            self.set_part(AX, 2, Val::known(quotient & 0xff | rest << 8 & 0xff00));
        } else {
            self.set_part(AX, size, Val::known(quotient));
            self.set_part(DX, size, Val::known(rest));
        }
        self.cpu.undefined |= ARITHMETIC;
        Ok(())
    }

    /// CBW, CWDE, CDQE.
    pub fn widen(&mut self, size: usize) {
        let a = self.part(AX, size / 2);
        let upper = self.p.derive(&[(a.w, sign(size / 2))]);
        let v = sign_extend(a.v, size / 2);
        let extended = Val { v, w: P::put(&upper, 0, size / 2, &a.w) };
        self.set_part(AX, size, extended);
    }

    /// CWD, CDQ, CQO.
    pub fn sign_to_d(&mut self, size: usize) {
        let a = self.part(AX, size);
        let w = self.p.derive(&[(a.w, sign(size))]);
        let v = if a.v & sign(size) != 0 { u64::MAX } else { 0 };
        self.set_part(DX, size, Val { v, w });
    }

    /// XADD.
    pub fn exchange_add(&mut self, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let a = self.get_to_change(d, d.a)?;
        let b = self.get(d, d.b)?;
        let (r, flags) = flags::add(a.v, b.v, 0, size);
        let w = self.both(&a, &b, size);
        if let Operand::Mem { .. } = d.a {
            self.set(d, d.a, Val { v: r, w })?;
            self.set(d, d.b, a)?;
        } else {
            self.set(d, d.b, a)?;
            self.set(d, d.a, Val { v: r, w })?;
        }
        self.computed_flags(flags, 0, 0, &w);
        Ok(())
    }

    /// CMPXCHG: memory is written either way.
    pub fn compare_exchange(&mut self, d: &Decoded) -> Run<()> {
        let size = usize::from(d.size);
        let a = self.get_to_change(d, d.a)?;
        let expected = self.part(AX, size);
        let (_, flags) = flags::sub(expected.v, a.v, 0, size);
        let w = self.both(&a, &expected, size);
        self.p.look(&w, u64::MAX);
        if flags & ZF != 0 {
            let b = self.get(d, d.b)?;
            self.set(d, d.a, b)?;
        } else {
            if let Operand::Mem { .. } = d.a {
                self.set(d, d.a, a)?;
            }
            self.set_part(AX, size, a);
        }
        self.computed_flags(flags, 0, 0, &P::KNOWN);
        Ok(())
    }

    /// CMPXCHG8B.
    pub fn compare_exchange_8(&mut self, d: &Decoded) -> Run<()> {
        let old = self.get_to_change(d, d.a)?;
        let expected = self.part(AX, 4).with(4, 4, self.part(DX, 4));
        let w = self.both(&old, &expected, 8);
        self.p.look(&w, u64::MAX);
        let equal = old.v == expected.v;
        let new = if equal { self.part(BX, 4).with(4, 4, self.part(super::exec::CX, 4)) } else { old };
        self.set(d, d.a, new)?;
        if !equal {
            self.set_part(AX, 4, old.bytes(0, 4));
            self.set_part(DX, 4, old.bytes(4, 4));
        }
        self.set_flags(ZF, when(equal, ZF));
        Ok(())
    }
}

/// The halves of a product, and whether the low one says all.
fn product(a: u64, b: u64, size: usize, signed: bool) -> (u64, u64, bool) {
    let bits = 8 * size as u32;
    if signed {
        let r = i128::from(sign_extend(a, size) as i64).wrapping_mul(i128::from(sign_extend(b, size) as i64));
        let low = r as u64 & ones(size);
        (low, (r >> bits) as u64 & ones(size), i128::from(sign_extend(low, size) as i64) == r)
    } else {
        let r = u128::from(a & ones(size)).wrapping_mul(u128::from(b & ones(size)));
        let high = (r >> bits) as u64 & ones(size);
        (r as u64 & ones(size), high, high == 0)
    }
}

/// Quotient and remainder; `None` where the quotient does not fit or the divisor is zero.
fn quotient(high: u64, low: u64, divisor: u64, size: usize, signed: bool) -> Option<(u64, u64)> {
    let bits = 8 * size as u32;
    let dividend = u128::from(high) << bits | u128::from(low);
    if !signed {
        let q = dividend.checked_div(divisor.into())?;
        return (q <= ones(size).into()).then_some((q as u64, (dividend % u128::from(divisor)) as u64));
    }
    let dividend = if size == 8 { dividend as i128 } else { i128::from(sign_extend(dividend as u64, 2 * size) as i64) };
    let divisor = i128::from(sign_extend(divisor, size) as i64);
    let q = dividend.checked_div(divisor)?;
    let r = dividend.checked_rem(divisor)?;
    let fits = i128::from(sign_extend(q as u64, size) as i64) == q;
    fits.then_some((q as u64 & ones(size), r as u64 & ones(size)))
}
