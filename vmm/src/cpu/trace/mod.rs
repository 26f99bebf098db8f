//! Where values come from.
//!
//! The model computes with plain numbers. Beside each it can carry its *provenance*, byte by
//! byte, and for each flag. The instructions' semantics are written once, over
//! [`Provenance`]: with [`Untraced`] nothing is carried and nothing costs; [`Traced`] carries it.

mod carry;
mod join;
mod looks;
mod origin;
mod substitute;
mod traced;

pub use looks::Looks;
pub use origin::{Linear, Origin, Place, Predicate, Side, inputs};
pub use traced::Traced;

use super::Msrs;
use super::decode::Condition;

/// A register whose value can be carried without being looked at. All other state (segments
/// but for two bases, tables, control registers, the NMI mask) counts as always looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Register {
    /// A general register, by its number in the encoding.
    Gpr(u8),
    /// RIP.
    Rip,
    /// RFLAGS.
    Flags,
    /// CR2.
    Cr2,
    /// The base of FS.
    FsBase,
    /// The base of GS.
    GsBase,
    /// IA32_KERNEL_GS_BASE.
    KernelGs,
    /// DR0 to DR3.
    Dr(u8),
    /// DR6.
    Dr6,
    /// A carried MSR, by its index in [`Msrs::NUMBERS`].
    Msr(u8),
}

impl Register {
    /// How many there are.
    pub const COUNT: usize = 16 + 7 + 4 + Msrs::NUMBERS.len();

    /// A dense number, below [`Register::COUNT`].
    #[inline]
    pub fn index(self) -> usize {
        match self {
            Self::Gpr(n) => usize::from(n & 15),
            Self::Rip => 16,
            Self::Flags => 17,
            Self::Cr2 => 18,
            Self::FsBase => 19,
            Self::GsBase => 20,
            Self::KernelGs => 21,
            Self::Dr6 => 22,
            Self::Dr(n) => 23 + usize::from(n & 3),
            Self::Msr(n) => 27 + usize::from(n) % Msrs::NUMBERS.len(),
        }
    }

    /// All of them, in the order of [`Register::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let first = (0..16).map(Self::Gpr);
        let named = [Self::Rip, Self::Flags, Self::Cr2, Self::FsBase, Self::GsBase, Self::KernelGs, Self::Dr6];
        first.chain(named).chain((0..4).map(Self::Dr)).chain((0..Msrs::NUMBERS.len() as u8).map(Self::Msr))
    }
}

/// What is carried beside the numbers.
///
/// A `Word` describes eight bytes. *Looking* at bits means that the run depends on them: the
/// instructions executed, the addresses used, or the values computed.
pub trait Provenance {
    /// The provenance of eight bytes.
    type Word: Copy + std::fmt::Debug;
    /// Eight constant bytes.
    const KNOWN: Self::Word;

    /// What a register holds.
    fn register(&self, register: Register) -> Self::Word;
    /// What RFLAGS holds, to be moved; the flags of `clear` are constant in it.
    fn flags(&mut self, clear: u64) -> Self::Word;
    /// Sets what a register holds.
    fn set_register(&mut self, register: Register, word: Self::Word);
    /// What `size` bytes at a guest-physical address hold; the bytes above are constant.
    fn memory(&mut self, paddr: u64, size: usize) -> Self::Word;
    /// Sets what they hold.
    fn set_memory(&mut self, paddr: u64, size: usize, word: Self::Word);

    /// `size` bytes from byte `from` on, moved to the bottom, the rest constant.
    fn bytes(word: &Self::Word, from: usize, size: usize) -> Self::Word;
    /// `word` with the low `size` bytes of `other` from byte `at` on.
    fn put(word: &Self::Word, at: usize, size: usize, other: &Self::Word) -> Self::Word;
    /// Whether the low `size` bytes are constants.
    fn is_known(&self, word: &Self::Word, size: usize) -> bool;
    /// A result: bytes whose bits are all set in `keep` come from `word`, bytes without any
    /// are constant, and the others depend on what `other` says.
    fn keep(word: &Self::Word, keep: u64, other: &Self::Word) -> Self::Word;

    /// Takes note that the bits of `mask` are looked at.
    fn look(&mut self, word: &Self::Word, mask: u64);
    /// Takes note that `size` bytes at a guest-physical address are looked at.
    fn look_memory(&mut self, paddr: u64, size: usize) {
        let word = self.memory(paddr, size);
        self.look(&word, u64::MAX);
    }
    /// The provenance of a result that depends on the bits of each mask.
    fn derive(&mut self, inputs: &[(Self::Word, u64)]) -> Self::Word;
    /// The provenance of `word` plus a constant, where that is kept; else that of a result.
    fn offset(&mut self, word: &Self::Word, constant: u64) -> Self::Word;

    /// Takes note that flags, RFLAGS bits, are looked at.
    fn look_flags(&mut self, mask: u64);
    /// The flags of `mask` now come from the bits of the same place in `word`.
    fn move_flags(&mut self, mask: u64, word: &Self::Word);
    /// The flags of `mask` now depend on a result.
    fn derive_flags(&mut self, mask: u64, result: &Self::Word);
    /// The flags of `mask` are those of the comparison of two values of `size` bytes.
    fn compare_flags(&mut self, mask: u64, size: usize, a: (&Self::Word, u64), b: (&Self::Word, u64));
    /// Takes note that a word was a canonical address or not.
    fn canonical(&mut self, word: &Self::Word, held: bool);
    /// Takes note that `condition`, which tests the flags of `mask`, held or not.
    fn condition(&mut self, condition: Condition, mask: u64, held: bool);
}

/// Carries nothing: to predict, fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untraced;

#[rustfmt::skip]
impl Provenance for Untraced {
    type Word = ();
    const KNOWN: () = ();

    #[inline(always)]
    fn register(&self, _: Register) {}
    #[inline(always)]
    fn flags(&mut self, _: u64) {}
    #[inline(always)]
    fn set_register(&mut self, _: Register, _: ()) {}
    #[inline(always)]
    fn memory(&mut self, _: u64, _: usize) {}
    #[inline(always)]
    fn set_memory(&mut self, _: u64, _: usize, _: ()) {}
    #[inline(always)]
    fn bytes(_: &(), _: usize, _: usize) {}
    #[inline(always)]
    fn put(_: &(), _: usize, _: usize, _: &()) {}
    #[inline(always)]
    fn is_known(&self, _: &(), _: usize) -> bool { true }
    #[inline(always)]
    fn keep(_: &(), _: u64, _: &()) {}
    #[inline(always)]
    fn look(&mut self, _: &(), _: u64) {}
    #[inline(always)]
    fn derive(&mut self, _: &[((), u64)]) {}
    #[inline(always)]
    fn offset(&mut self, _: &(), _: u64) {}
    #[inline(always)]
    fn look_flags(&mut self, _: u64) {}
    #[inline(always)]
    fn move_flags(&mut self, _: u64, _: &()) {}
    #[inline(always)]
    fn derive_flags(&mut self, _: u64, _: &()) {}
    #[inline(always)]
    fn compare_flags(&mut self, _: u64, _: usize, _: (&(), u64), _: (&(), u64)) {}
    #[inline(always)]
    fn canonical(&mut self, _: &(), _: bool) {}
    #[inline(always)]
    fn condition(&mut self, _: Condition, _: u64, _: bool) {}
}
