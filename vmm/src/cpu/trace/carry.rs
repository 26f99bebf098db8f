//! How provenance is carried from value to value, and how what is looked at is noted.

use super::super::Condition;
use super::super::value::ones;
use super::origin::{BitOrigin, Linear, Origin, Place, Predicate, Side};
use super::traced::{Derivation, Traced, VARIABLE, Word, flag_input, whole};
use super::{Provenance, Register};

/// A result of more inputs than these counts as looked at, so that sums over memory end.
const MANY: usize = 64;

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

    fn look_memory(&mut self, paddr: u64, size: usize) {
        let from = paddr & 7;
        if from + size as u64 <= 8 && !self.memory.contains_key(&(paddr >> 3)) {
            *self.looked_memory.entry(paddr >> 3).or_default() |= ones(size) << (8 * from);
            return;
        }
        let word = self.memory(paddr, size);
        self.look(&word, u64::MAX);
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
    pub(super) fn predicate(&mut self, predicate: Predicate) {
        if !self.predicates.contains(&predicate) {
            self.predicates.push(predicate);
        }
    }
}
