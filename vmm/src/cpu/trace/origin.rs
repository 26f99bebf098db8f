//! What provenance is made of.

use super::super::Cpu;
use super::super::access::is_canonical;
use super::super::rflags::FIXED;
use super::super::{Condition, flags};
use super::Register;

/// A byte of the state that a run began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A byte of guest-physical memory.
    Memory(u64),
    /// A byte of a register, 0 the lowest.
    Register(Register, u8),
}

impl Place {
    /// The place `n` bytes on.
    pub(super) fn plus(self, n: u8) -> Self {
        match self {
            Self::Memory(paddr) => Self::Memory(paddr.wrapping_add(n.into())),
            Self::Register(r, byte) => Self::Register(r, byte.wrapping_add(n)),
        }
    }
}

/// Where a byte comes from. Numbers are indices into the tables of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is what it is whatever the inputs are that were not looked at.
    Known,
    /// It is a byte of the input, moved.
    Copy(Place),
    /// It is a byte of a word of the input plus a constant.
    Offset {
        /// Which word and constant: [`super::Traced::linear`].
        id: u32,
        /// Which byte of the sum.
        byte: u8,
    },
    /// Its bits come from various places: flags, pushed.
    Mixed(u32),
    /// It was computed. Its inputs are looked at as soon as it is, or at the end.
    Derived(u32),
}

/// Where a bit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitOrigin {
    Known,
    Copy(Place, u8),
    Derived(u32),
}

/// A word of the input, by its lowest byte, plus a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Linear {
    /// The lowest of its eight bytes.
    pub word: Place,
    /// What is added, wrapping.
    pub add: u64,
}

impl Linear {
    /// Its value for these inputs.
    pub fn value(self, inputs: impl Fn(Place) -> u8) -> u64 {
        let bytes = std::array::from_fn(|i| inputs(self.word.plus(i as u8)));
        u64::from_le_bytes(bytes).wrapping_add(self.add)
    }
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// A constant.
    Known(u64),
    /// A word of the input, plus a constant.
    Input(Linear),
}

impl Side {
    fn value(self, inputs: impl Fn(Place) -> u8) -> u64 {
        match self {
            Self::Known(v) => v,
            Self::Input(linear) => linear.value(inputs),
        }
    }
}

/// All that a run saw of a word: how a comparison came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Predicate {
    /// After CMP `a`, `b` of 64 bits, a condition held or not.
    Compare {
        /// First operand of the comparison, the minuend.
        a: Side,
        /// Second operand.
        b: Side,
        /// What was tested.
        condition: Condition,
        /// What came out.
        held: bool,
    },
    /// The word was a canonical address or not.
    Canonical {
        /// The word.
        word: Linear,
        /// What came out.
        held: bool,
    },
}

impl Predicate {
    /// Whether it comes out the same for these inputs.
    pub fn agrees(&self, inputs: impl Fn(Place) -> u8) -> bool {
        match *self {
            Self::Compare { a, b, condition, held } => {
                let (_, value) = flags::sub(a.value(&inputs), b.value(&inputs), 0, 8);
                flags::holds(condition, value) == held
            }
            Self::Canonical { word, held } => is_canonical(word.value(&inputs)) == held,
        }
    }
}

impl Register {
    /// Its value.
    pub fn value(self, cpu: &Cpu) -> u64 {
        let get = |list: &[u64], n: u8| list.get(usize::from(n)).copied().unwrap_or(0);
        match self {
            Self::Gpr(n) => cpu.gpr(n),
            Self::Rip => cpu.regs.rip,
            Self::Flags => cpu.regs.rflags,
            Self::Cr2 => cpu.sregs.cr2,
            Self::FsBase => cpu.sregs.fs.base,
            Self::GsBase => cpu.sregs.gs.base,
            Self::KernelGs => cpu.kernel_gs,
            Self::Dr(n) => get(&cpu.debug.addresses, n),
            Self::Dr6 => cpu.debug.dr6,
            Self::Msr(n) => get(&cpu.msrs.values, n),
        }
    }

    /// Sets its value.
    pub fn set(self, cpu: &mut Cpu, value: u64) {
        let slot = match self {
            Self::Gpr(n) => cpu.gpr_mut(n),
            Self::Rip => &mut cpu.regs.rip,
            Self::Flags => &mut cpu.regs.rflags,
            Self::Cr2 => &mut cpu.sregs.cr2,
            Self::FsBase => &mut cpu.sregs.fs.base,
            Self::GsBase => &mut cpu.sregs.gs.base,
            Self::KernelGs => &mut cpu.kernel_gs,
            Self::Dr(n) => &mut cpu.debug.addresses[usize::from(n & 3)],
            Self::Dr6 => &mut cpu.debug.dr6,
            Self::Msr(n) => match cpu.msrs.values.get_mut(usize::from(n)) {
                Some(slot) => slot,
                None => return,
            },
        };
        *slot = if self == Self::Flags { value | FIXED } else { value };
    }
}

/// The inputs of a machine: a byte by its place. Memory beyond RAM reads as zero.
pub fn inputs<'a>(cpu: &'a Cpu, ram: &'a [u8]) -> impl Fn(Place) -> u8 + Copy + 'a {
    move |place| match place {
        Place::Memory(paddr) => usize::try_from(paddr).ok().and_then(|at| ram.get(at)).copied().unwrap_or(0),
        Place::Register(r, byte) => (r.value(cpu) >> (8 * (byte & 7))) as u8,
    }
}
