//! Values with the provenance of each byte, and what of the input was looked at.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::Condition;
use super::super::value::ones;
use super::origin::{BitOrigin, Linear, Origin, Place, Predicate, Side};
use super::{Provenance, Register};

/// The flags that are not constant: all but bits 1, 3, 5, 15 and those above 21.
const VARIABLE: u64 = 0x3f_7fd5;
/// A result of more inputs than these counts as looked at, so that sums over memory end.
const MANY: usize = 64;

type Word = [Origin; 8];

/// What a computed value depends on.
#[derive(Clone, Debug)]
struct Derivation {
    /// Bytes, with the bits that matter.
    inputs: Vec<(Place, u8)>,
    /// It is a comparison of these, 64 bits wide.
    compared: Option<(Side, Side)>,
}

/// Addresses hash as themselves, stirred.
#[derive(Clone, Default)]
struct AddressHasher(u64);

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

type ByAddress<T> = HashMap<u64, T, BuildHasherDefault<AddressHasher>>;

/// Provenance, carried from a state whose every byte is an input.
#[derive(Clone, Debug)]
pub struct Traced {
    registers: [Word; Register::COUNT],
    flags: [BitOrigin; 22],
    /// Words that were written, by their address over eight.
    memory: ByAddress<Word>,
    looked_registers: [u64; Register::COUNT],
    looked_memory: ByAddress<u64>,
    linears: Vec<Linear>,
    mixed: Vec<[BitOrigin; 8]>,
    derived: Vec<Derivation>,
    predicates: Vec<Predicate>,
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

fn flag_input(bit: usize) -> BitOrigin {
    if VARIABLE >> bit & 1 == 0 {
        return BitOrigin::Known;
    }
    BitOrigin::Copy(Place::Register(Register::Flags, (bit / 8) as u8), (bit % 8) as u8)
}

/// Eight bytes of the input in their order, by the lowest.
fn whole(word: &Word) -> Option<Place> {
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

    /// Where a byte of memory comes from.
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
    /// memory are looked at: to be called at the end of a run. Those values are then constants.
    pub fn settle(&mut self) {
        let words: Vec<Word> = self.registers.iter().chain(self.memory.values()).copied().collect();
        for word in words {
            for origin in word {
                match origin {
                    Origin::Derived(id) => self.look_derived(id),
                    Origin::Mixed(id) => {
                        for bit in self.mixed[id as usize] {
                            self.settle_bit(bit);
                        }
                    }
                    _ => {}
                }
            }
        }
        for bit in self.flags {
            self.settle_bit(bit);
        }
    }

    fn settle_bit(&mut self, bit: BitOrigin) {
        if let BitOrigin::Derived(id) = bit {
            self.look_derived(id);
        }
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

    fn look_bit(&mut self, bit: BitOrigin) {
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

    fn look_origin(&mut self, origin: Origin, bits: u8) {
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

    fn gather(&self, origin: Origin, bits: u8, into: &mut Vec<(Place, u8)>) {
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
    fn as_linear(&self, word: &Word) -> Option<Linear> {
        if let Some(first) = whole(word) {
            return Some(Linear { word: first, add: 0 });
        }
        let Origin::Offset { id, byte: 0 } = word[0] else { return None };
        let in_order = (1..8).all(|i| word[i] == Origin::Offset { id, byte: i as u8 });
        in_order.then(|| self.linears[id as usize])
    }

    fn bit_of(&mut self, word: &Word, n: usize) -> BitOrigin {
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

impl Provenance for Traced {
    type Word = Word;
    const KNOWN: Word = [Origin::Known; 8];

    fn register(&self, register: Register) -> Word {
        self.registers[register.index()]
    }

    fn flags(&mut self, clear: u64) -> Word {
        let mut word = Self::KNOWN;
        for (byte, slot) in word.iter_mut().enumerate().take(3) {
            let bits: [BitOrigin; 8] = std::array::from_fn(|i| {
                let n = 8 * byte + i;
                if clear >> n & 1 == 1 { BitOrigin::Known } else { self.flag(n) }
            });
            *slot = if bits.iter().all(|b| *b == BitOrigin::Known) {
                Origin::Known
            } else if (0..8)
                .all(|i| bits[i] == if byte * 8 + i < 22 { flag_input(8 * byte + i) } else { BitOrigin::Known })
            {
                Origin::Copy(Place::Register(Register::Flags, byte as u8))
            } else {
                self.mixed.push(bits);
                Origin::Mixed(self.mixed.len() as u32 - 1)
            };
        }
        word
    }

    fn set_register(&mut self, register: Register, word: Word) {
        self.registers[register.index()] = word;
    }

    fn memory(&mut self, paddr: u64, size: usize) -> Word {
        let mut out = Self::KNOWN;
        let mut at = u64::MAX;
        let mut word = None;
        for (i, slot) in out.iter_mut().enumerate().take(size) {
            let place = paddr.wrapping_add(i as u64);
            if place >> 3 != at {
                at = place >> 3;
                word = self.memory.get(&at);
            }
            *slot = word.map_or(Origin::Copy(Place::Memory(place)), |w| w[(place & 7) as usize]);
        }
        out
    }

    fn set_memory(&mut self, paddr: u64, size: usize, word: Word) {
        for (i, origin) in word.into_iter().enumerate().take(size) {
            let place = paddr.wrapping_add(i as u64);
            let base = place & !7;
            let fresh = || std::array::from_fn(|i| Origin::Copy(Place::Memory(base + i as u64)));
            self.memory.entry(place >> 3).or_insert_with(fresh)[(place & 7) as usize] = origin;
        }
    }

    fn bytes(word: &Word, from: usize, size: usize) -> Word {
        let mut out = Self::KNOWN;
        for (i, slot) in out.iter_mut().enumerate().take(size) {
            *slot = word.get(from + i).copied().unwrap_or(Origin::Known);
        }
        out
    }

    fn put(word: &Word, at: usize, size: usize, other: &Word) -> Word {
        let mut out = *word;
        out.iter_mut().skip(at).take(size).zip(other).for_each(|(to, from)| *to = *from);
        out
    }

    fn is_known(&self, word: &Word, size: usize) -> bool {
        word.iter().take(size).all(|o| *o == Origin::Known)
    }

    fn keep(word: &Word, keep: u64, other: &Word) -> Word {
        std::array::from_fn(|i| match (keep >> (8 * i)) as u8 {
            0xff => word[i],
            0 => Origin::Known,
            _ => other[i],
        })
    }

    fn look(&mut self, word: &Word, mask: u64) {
        if let Some(Place::Memory(paddr)) = whole(word)
            && paddr & 7 == 0
        {
            *self.looked_memory.entry(paddr >> 3).or_default() |= mask;
            return;
        }
        for (i, origin) in word.iter().enumerate() {
            let bits = (mask >> (8 * i)) as u8;
            if bits != 0 {
                self.look_origin(*origin, bits);
            }
        }
    }

    fn derive(&mut self, inputs: &[(Word, u64)]) -> Word {
        let mut all = Vec::new();
        for (word, mask) in inputs {
            for (i, origin) in word.iter().enumerate() {
                let bits = (mask >> (8 * i)) as u8;
                if bits != 0 {
                    self.gather(*origin, bits, &mut all);
                }
            }
        }
        if all.is_empty() {
            return Self::KNOWN;
        }
        all.sort_unstable();
        all.dedup();
        if all.len() > MANY {
            for (place, bits) in all {
                self.look_place(place, bits);
            }
            return Self::KNOWN;
        }
        self.derived.push(Derivation { inputs: all, compared: None });
        [Origin::Derived(self.derived.len() as u32 - 1); 8]
    }

    fn offset(&mut self, word: &Word, constant: u64) -> Word {
        if constant == 0 || *word == Self::KNOWN {
            return *word;
        }
        let Some(linear) = self.as_linear(word) else { return self.derive(&[(*word, u64::MAX)]) };
        let add = linear.add.wrapping_add(constant);
        if add == 0 {
            return std::array::from_fn(|i| Origin::Copy(linear.word.plus(i as u8)));
        }
        self.linears.push(Linear { add, ..linear });
        let id = self.linears.len() as u32 - 1;
        std::array::from_fn(|i| Origin::Offset { id, byte: i as u8 })
    }

    fn look_flags(&mut self, mask: u64) {
        for n in 0..22 {
            if mask >> n & 1 == 1 {
                self.look_bit(self.flag(n));
            }
        }
    }

    fn move_flags(&mut self, mask: u64, word: &Word) {
        for n in 0..22 {
            if (mask & VARIABLE) >> n & 1 == 1 {
                self.flags[n] = self.bit_of(word, n);
            }
        }
    }

    fn derive_flags(&mut self, mask: u64, result: &Word) {
        let result = if self.is_known(result, 8) { *result } else { self.derive(&[(*result, u64::MAX)]) };
        self.move_flags(mask, &result);
    }

    fn compare_flags(&mut self, mask: u64, size: usize, a: (&Word, u64), b: (&Word, u64)) {
        let result = self.derive(&[(*a.0, ones(size)), (*b.0, ones(size))]);
        let side = |t: &Self, (word, value): (&Word, u64)| {
            if t.is_known(word, 8) { Some(Side::Known(value)) } else { t.as_linear(word).map(Side::Input) }
        };
        if let (Origin::Derived(id), 8) = (result[0], size)
            && let (Some(a), Some(b)) = (side(self, a), side(self, b))
        {
            self.derived[id as usize].compared = Some((a, b));
        }
        self.move_flags(mask, &result);
    }

    fn canonical(&mut self, word: &Word, held: bool) {
        match self.as_linear(word) {
            Some(word) => self.predicate(Predicate::Canonical { word, held }),
            None => self.look(word, 0xffff_8000_0000_0000),
        }
    }

    fn condition(&mut self, condition: Condition, mask: u64, held: bool) {
        let mut bits = (0..22).filter(|n| mask >> n & 1 == 1).map(|n| self.flag(n));
        let first = bits.next();
        if let Some(BitOrigin::Derived(id)) = first
            && bits.all(|b| Some(b) == first)
            && let Some((a, b)) = self.derived[id as usize].compared
        {
            return self.predicate(Predicate::Compare { a, b, condition, held });
        }
        self.look_flags(mask);
    }
}

impl Traced {
    fn predicate(&mut self, predicate: Predicate) {
        if !self.predicates.contains(&predicate) {
            self.predicates.push(predicate);
        }
    }
}
