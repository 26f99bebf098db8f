//! Values with the provenance of each byte, and what of the input was looked at.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::origin::{BitOrigin, Linear, Origin, Place, Predicate, Side};
use super::{Provenance, Register};

/// The flags that are not constant: all but bits 1, 3, 5, 15 and those above 21.
pub(super) const VARIABLE: u64 = 0x3f_7fd5;
pub(super) type Word = [Origin; 8];

/// What a computed value depends on.
#[derive(Clone, Debug)]
pub(super) struct Derivation {
    /// Bytes, with the bits that matter.
    pub inputs: Vec<(Place, u8)>,
    /// It is a comparison of these, 64 bits wide.
    pub compared: Option<(Side, Side)>,
}

/// Addresses hash as themselves, stirred.
#[derive(Clone, Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 29;
    }
}

/// The tables of a settled trace.
#[derive(Default)]
struct Kept {
    linears: Vec<Linear>,
    mixed: Vec<[BitOrigin; 8]>,
}

pub(super) type ByAddress<T> = HashMap<u64, T, BuildHasherDefault<AddressHasher>>;

/// Provenance, carried from a state whose every byte is an input.
#[derive(Clone, Debug)]
pub struct Traced {
    pub(super) registers: [Word; Register::COUNT],
    pub(super) flags: [BitOrigin; 22],
    /// Words that were written, by their address over eight.
    pub(super) memory: ByAddress<Word>,
    pub(super) looked_registers: [u64; Register::COUNT],
    pub(super) looked_memory: ByAddress<u64>,
    pub(super) linears: Vec<Linear>,
    pub(super) mixed: Vec<[BitOrigin; 8]>,
    pub(super) derived: Vec<Derivation>,
    pub(super) predicates: Vec<Predicate>,
}

impl Default for Traced {
    fn default() -> Self {
        let mut registers = [[Origin::Known; 8]; Register::COUNT];
        for r in Register::all() {
            registers[r.index()] = std::array::from_fn(|i| Origin::Copy(Place::Register(r, i as u8)));
        }
        Self {
            registers,
            flags: std::array::from_fn(flag_input),
            memory: HashMap::default(),
            looked_registers: [0; Register::COUNT],
            looked_memory: HashMap::default(),
            linears: Vec::new(),
            mixed: Vec::new(),
            derived: Vec::new(),
            predicates: Vec::new(),
        }
    }
}

pub(super) fn flag_input(bit: usize) -> BitOrigin {
    if VARIABLE >> bit & 1 == 0 {
        return BitOrigin::Known;
    }
    BitOrigin::Copy(Place::Register(Register::Flags, (bit / 8) as u8), (bit % 8) as u8)
}

/// Eight bytes of the input in their order, by the lowest.
pub(super) fn whole(word: &Word) -> Option<Place> {
    let Origin::Copy(first) = word[0] else { return None };
    let in_order = (1..8).all(|i| word[i] == Origin::Copy(first.plus(i as u8)));
    let aligned = !matches!(first, Place::Register(_, byte) if byte != 0);
    (in_order && aligned).then_some(first)
}

impl Traced {
    /// Nothing is known, looked at, or written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the input that were looked at, with the bits of each.
    pub fn looked(&self) -> impl Iterator<Item = (Place, u8)> + '_ {
        let bytes = |mask: u64| (0..8u8).map(move |i| (i, (mask >> (8 * i)) as u8)).filter(|(_, m)| *m != 0);
        let registers = Register::all().zip(self.looked_registers);
        let registers = registers.flat_map(move |(r, mask)| bytes(mask).map(move |(i, m)| (Place::Register(r, i), m)));
        let memory = self.looked_memory.iter();
        registers.chain(
            memory.flat_map(move |(w, mask)| bytes(*mask).map(move |(i, m)| (Place::Memory(w * 8 + u64::from(i)), m))),
        )
    }

    /// What was seen of inputs that were not looked at otherwise.
    pub fn predicates(&self) -> &[Predicate] {
        &self.predicates
    }

    /// Where a register's bytes come from. Of RFLAGS it means nothing: its bits are
    /// followed one by one.
    pub fn register_origins(&self, register: Register) -> [Origin; 8] {
        self.registers[register.index()]
    }

    /// Bytes of memory that were written, with where they come from, in no order. A byte that
    /// was written with what it held before is among them.
    pub fn written(&self) -> impl Iterator<Item = (u64, Origin)> + '_ {
        let words = self.memory.iter();
        words
            .flat_map(|(w, word)| (0..8).map(move |i| (w * 8 + i as u64, word[i])))
            .filter(|(paddr, origin)| *origin != Origin::Copy(Place::Memory(*paddr)))
    }

    /// Where the bytes of a word of memory come from, by its address over eight.
    pub(super) fn word_at(&self, word: u64) -> Word {
        let fresh = || std::array::from_fn(|i| Origin::Copy(Place::Memory(word * 8 + i as u64)));
        self.memory.get(&word).copied().unwrap_or_else(fresh)
    }

    /// Where a byte of memory comes from.
    /// Whether a byte of memory still holds what it held at first, as far as is known.
    pub fn is_input(&self, paddr: u64) -> bool {
        self.byte_at(paddr) == Origin::Copy(Place::Memory(paddr))
    }

    pub(super) fn byte_at(&self, paddr: u64) -> Origin {
        self.memory.get(&(paddr >> 3)).map_or(Origin::Copy(Place::Memory(paddr)), |w| w[(paddr & 7) as usize])
    }

    /// Takes over what `other`, from the same beginning, has looked at: it has looked at
    /// nothing then.
    pub fn take_looks(&mut self, other: &mut Self) {
        for (mine, theirs) in self.looked_registers.iter_mut().zip(&mut other.looked_registers) {
            *mine |= std::mem::take(theirs);
        }
        for (word, mask) in other.looked_memory.drain() {
            *self.looked_memory.entry(word).or_default() |= mask;
        }
        for predicate in other.predicates.drain(..) {
            self.predicate(predicate);
        }
    }

    /// What an [`Origin::Offset`] stands for.
    pub fn linear(&self, id: u32) -> Linear {
        self.linears[id as usize]
    }

    /// Takes note that all inputs of computed values that are left in registers, flags and
    /// memory are looked at: to be called at the end of a run. Those values are constants then, and
    /// what nothing refers to any more is forgotten.
    pub fn settle(&mut self) {
        let mut kept = Kept::default();
        let mut registers = self.registers;
        let mut memory = std::mem::take(&mut self.memory);
        for origin in registers.iter_mut().chain(memory.values_mut()).flatten() {
            *origin = self.settled(*origin, &mut kept);
        }
        (self.registers, self.memory) = (registers, memory);
        self.flags = self.flags.map(|bit| self.settled_bit(bit));
        (self.linears, self.mixed) = (kept.linears, kept.mixed);
        self.derived.clear();
    }

    fn settled(&mut self, origin: Origin, kept: &mut Kept) -> Origin {
        match origin {
            Origin::Known | Origin::Copy(_) => origin,
            Origin::Derived(id) => {
                self.look_derived(id);
                Origin::Known
            }
            Origin::Offset { id, byte } => {
                let linear = self.linears[id as usize];
                let (known, len) = (kept.linears.iter().position(|l| *l == linear), kept.linears.len());
                if known.is_none() {
                    kept.linears.push(linear);
                }
                Origin::Offset { id: known.unwrap_or(len) as u32, byte }
            }
            Origin::Mixed(id) => {
                kept.mixed.push(self.mixed[id as usize].map(|bit| self.settled_bit(bit)));
                Origin::Mixed(kept.mixed.len() as u32 - 1)
            }
        }
    }

    fn settled_bit(&mut self, bit: BitOrigin) -> BitOrigin {
        let BitOrigin::Derived(id) = bit else { return bit };
        self.look_derived(id);
        BitOrigin::Known
    }

    /// Where a flag comes from, by its number, as a byte would: for substitution.
    pub(super) fn flag(&self, bit: usize) -> BitOrigin {
        self.flags.get(bit).copied().unwrap_or(BitOrigin::Known)
    }

    pub(super) fn mixed(&self, id: u32) -> [BitOrigin; 8] {
        self.mixed[id as usize]
    }

    pub(super) fn look_place(&mut self, place: Place, bits: u8) {
        match place {
            Place::Memory(paddr) => {
                *self.looked_memory.entry(paddr >> 3).or_default() |= u64::from(bits) << (8 * (paddr & 7));
            }
            Place::Register(r, byte) => self.looked_registers[r.index()] |= u64::from(bits) << (8 * (byte & 7)),
        }
    }

    pub(super) fn look_bit(&mut self, bit: BitOrigin) {
        match bit {
            BitOrigin::Known => {}
            BitOrigin::Copy(place, n) => self.look_place(place, 1 << n),
            BitOrigin::Derived(id) => self.look_derived(id),
        }
    }

    fn look_derived(&mut self, id: u32) {
        let inputs = std::mem::take(&mut self.derived[id as usize].inputs);
        for (place, bits) in &inputs {
            self.look_place(*place, *bits);
        }
        // They stay empty: once looked at, the value is a constant.
    }

    pub(super) fn look_origin(&mut self, origin: Origin, bits: u8) {
        match origin {
            Origin::Known => {}
            Origin::Copy(place) => self.look_place(place, bits),
            Origin::Derived(id) => self.look_derived(id),
            Origin::Offset { id, byte } => {
                for i in 0..=byte {
                    self.look_place(self.linears[id as usize].word.plus(i), 0xff);
                }
            }
            Origin::Mixed(id) => {
                for (n, bit) in self.mixed[id as usize].into_iter().enumerate() {
                    if bits >> n & 1 == 1 {
                        self.look_bit(bit);
                    }
                }
            }
        }
    }

    fn gather_bit(&self, bit: BitOrigin, into: &mut Vec<(Place, u8)>) {
        match bit {
            BitOrigin::Known => {}
            BitOrigin::Copy(place, n) => into.push((place, 1 << n)),
            BitOrigin::Derived(id) => into.extend(&self.derived[id as usize].inputs),
        }
    }

    pub(super) fn gather(&self, origin: Origin, bits: u8, into: &mut Vec<(Place, u8)>) {
        match origin {
            Origin::Known => {}
            Origin::Copy(place) => into.push((place, bits)),
            Origin::Derived(id) => into.extend(&self.derived[id as usize].inputs),
            Origin::Offset { id, byte } => {
                into.extend((0..=byte).map(|i| (self.linears[id as usize].word.plus(i), 0xff)));
            }
            Origin::Mixed(id) => {
                for (n, bit) in self.mixed[id as usize].into_iter().enumerate() {
                    if bits >> n & 1 == 1 {
                        self.gather_bit(bit, into);
                    }
                }
            }
        }
    }

    /// The word of the input that this one is, plus a constant.
    pub(super) fn as_linear(&self, word: &Word) -> Option<Linear> {
        if let Some(first) = whole(word) {
            return Some(Linear { word: first, add: 0 });
        }
        let Origin::Offset { id, byte: 0 } = word[0] else { return None };
        let in_order = (1..8).all(|i| word[i] == Origin::Offset { id, byte: i as u8 });
        in_order.then(|| self.linears[id as usize])
    }

    pub(super) fn bit_of(&mut self, word: &Word, n: usize) -> BitOrigin {
        let origin = word[n / 8];
        match origin {
            Origin::Known => BitOrigin::Known,
            Origin::Copy(place) => BitOrigin::Copy(place, (n % 8) as u8),
            Origin::Mixed(id) => self.mixed[id as usize][n % 8],
            Origin::Derived(id) => BitOrigin::Derived(id),
            Origin::Offset { .. } => match self.derive(&[(*word, 0xff << (n / 8 * 8))])[0] {
                Origin::Derived(id) => BitOrigin::Derived(id),
                _ => BitOrigin::Known,
            },
        }
    }
}
