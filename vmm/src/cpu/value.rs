//! A value and where it comes from.

use super::trace::Provenance;

/// All ones in the low `size` bytes, of 0 to 8.
#[inline]
pub(super) fn ones(size: usize) -> u64 {
    if size >= 8 { u64::MAX } else { (1u64 << (8 * size)) - 1 }
}

/// The low `size` bytes of `v`, sign-extended to 64 bits.
#[inline]
pub(super) fn sign_extend(v: u64, size: usize) -> u64 {
    match size {
        1 => v as i8 as u64,
        2 => v as i16 as u64,
        4 => v as i32 as u64,
        _ => v,
    }
}

/// The sign bit of a value of `size` bytes.
#[inline]
pub(super) fn sign(size: usize) -> u64 {
    1 << (8 * size - 1)
}

/// Eight bytes as they are computed with, and the provenance of each.
#[derive(Debug)]
pub(super) struct Val<P: Provenance> {
    /// The number.
    pub v: u64,
    /// Where it comes from.
    pub w: P::Word,
}

impl<P: Provenance> Clone for Val<P> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Provenance> Copy for Val<P> {}

impl<P: Provenance> Val<P> {
    /// A constant.
    #[inline]
    pub fn known(v: u64) -> Self {
        Self { v, w: P::KNOWN }
    }

    /// The low `size` bytes, zero-extended.
    #[inline]
    pub fn low(self, size: usize) -> Self {
        self.bytes(0, size)
    }

    /// `size` bytes from byte `from` on, moved to the bottom and zero-extended.
    #[inline]
    pub fn bytes(self, from: usize, size: usize) -> Self {
        Self { v: self.v >> (8 * from) & ones(size), w: P::bytes(&self.w, from, size) }
    }

    /// This value with the low `size` bytes of `other` in place of those from byte `at` on.
    #[inline]
    pub fn with(self, at: usize, size: usize, other: Self) -> Self {
        let mask = ones(size) << (8 * at);
        Self { v: self.v & !mask | other.v << (8 * at) & mask, w: P::put(&self.w, at, size, &other.w) }
    }
}
