//! The arithmetic flags (SDM vol. 1, 3.4.3.1).

use super::Condition;
use super::rflags::{AF, CF, OF, PF, SF, ZF};
use super::value::{ones, sign};

/// CF, PF, AF, ZF, SF and OF.
pub(super) const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
/// Those that IRET and POPF can always change, besides: TF, DF, NT, AC, ID.
pub(super) const FREE: u64 = ARITHMETIC | 1 << 8 | 1 << 10 | 1 << 14 | 1 << 18 | 1 << 21;

#[inline]
pub(super) fn when(condition: bool, flag: u64) -> u64 {
    if condition { flag } else { 0 }
}

/// ZF, SF and PF of a result of `size` bytes.
#[inline]
pub(super) fn of_result(r: u64, size: usize) -> u64 {
    let r = r & ones(size);
    when(r == 0, ZF) | when(r & sign(size) != 0, SF) | when((r as u8).count_ones().is_multiple_of(2), PF)
}

/// `a + b + carry`, and all flags.
#[inline]
pub(super) fn add(a: u64, b: u64, carry: u64, size: usize) -> (u64, u64) {
    let mask = ones(size);
    let (a, b) = (a & mask, b & mask);
    let r = a.wrapping_add(b).wrapping_add(carry) & mask;
    let carries = a & b | (a | b) & !r;
    let overflow = (a ^ r) & (b ^ r);
    let top = sign(size);
    (r, of_result(r, size) | when(carries & top != 0, CF) | when(carries & 8 != 0, AF) | when(overflow & top != 0, OF))
}

/// `a - b - borrow`, and all flags.
#[inline]
pub(super) fn sub(a: u64, b: u64, borrow: u64, size: usize) -> (u64, u64) {
    let mask = ones(size);
    let (a, b) = (a & mask, b & mask);
    let r = a.wrapping_sub(b).wrapping_sub(borrow) & mask;
    let borrows = !a & b | (!a | b) & r;
    let overflow = (a ^ b) & (a ^ r);
    let top = sign(size);
    (r, of_result(r, size) | when(borrows & top != 0, CF) | when(borrows & 8 != 0, AF) | when(overflow & top != 0, OF))
}

/// The flags that a condition tests.
#[inline]
pub(super) fn tested(condition: Condition) -> u64 {
    use Condition::*;
    match condition {
        O | No => OF,
        B | Ae => CF,
        E | Ne => ZF,
        Be | A => CF | ZF,
        S | Ns => SF,
        P | Np => PF,
        L | Ge => SF | OF,
        Le | G => SF | OF | ZF,
    }
}

/// Whether a condition holds with these flags.
#[inline]
pub(super) fn holds(condition: Condition, flags: u64) -> bool {
    use Condition::*;
    let is = |f: u64| flags & f != 0;
    match condition {
        O => is(OF),
        No => !is(OF),
        B => is(CF),
        Ae => !is(CF),
        E => is(ZF),
        Ne => !is(ZF),
        Be => is(CF | ZF),
        A => !is(CF | ZF),
        S => is(SF),
        Ns => !is(SF),
        P => is(PF),
        Np => !is(PF),
        L => is(SF) != is(OF),
        Ge => is(SF) == is(OF),
        Le => is(ZF) || is(SF) != is(OF),
        G => !is(ZF) && is(SF) == is(OF),
    }
}
