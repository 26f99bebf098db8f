//! Two traces from one beginning that have come to the same state.

use super::origin::{BitOrigin, Linear, Origin, Place};
use super::{Register, Traced};

impl Traced {
    /// Goes on for both: where the same value came from different places in the two, those
    /// are looked at, so that it is the same constant for every input alike. What `other` has
    /// looked at is looked at. Only the words of memory count for which `matters` holds, by address.
    ///
    /// Both must be settled.
    pub fn join(&mut self, other: &Self, matters: impl Fn(u64) -> bool) {
        for register in Register::all().filter(|r| *r != Register::Flags) {
            let (a, b) = (self.register_origins(register), other.register_origins(register));
            a.into_iter().zip(b).for_each(|(a, b)| self.join_byte(other, a, b));
        }
        for bit in 0..22 {
            let (a, b) = (self.flag(bit), other.flag(bit));
            if a != b {
                self.look_bit_of(a);
                self.look_bit_of(b);
            }
        }
        let only_theirs = other.memory.keys().filter(|word| !self.memory.contains_key(word));
        let words: Vec<u64> = self.memory.keys().chain(only_theirs).copied().collect();
        for word in words {
            let (a, b) = (self.word_at(word), other.word_at(word));
            // Most are the same, and need no table to say so.
            let plain = |o: &Origin| matches!(o, Origin::Known | Origin::Copy(_));
            if a == b && a.iter().all(plain) || !matters(word * 8) {
                continue;
            }
            a.into_iter().zip(b).for_each(|(a, b)| self.join_byte(other, a, b));
        }
    }

    /// Takes note that all of an input register is looked at.
    pub fn look_at_register(&mut self, register: Register) {
        (0..8).for_each(|byte| self.look_place(Place::Register(register, byte), 0xff));
    }

    /// Whether eight bytes at an address, a multiple of eight, hold an input register as it was.
    /// The upper bytes of RFLAGS are constants.
    pub fn holds(&self, paddr: u64, register: Register) -> bool {
        (0..8).all(|i| {
            let origin = self.byte_at(paddr + u64::from(i));
            let constant = register == Register::Flags && i >= 3 && origin == Origin::Known;
            constant || origin == Origin::Copy(Place::Register(register, i))
        })
    }

    fn join_byte(&mut self, other: &Self, a: Origin, b: Origin) {
        let same = match (a, b) {
            (Origin::Offset { id: x, byte: i }, Origin::Offset { id: y, byte: j }) => {
                i == j && self.linear(x) == other.linear(y)
            }
            (Origin::Mixed(x), Origin::Mixed(y)) => self.mixed(x) == other.mixed(y),
            (Origin::Derived(_) | Origin::Known, Origin::Derived(_) | Origin::Known) => true,
            (a, b) => a == b,
        };
        if !same {
            self.look_byte(None, a);
            self.look_byte(Some(other), b);
        }
    }

    /// Looks at all of a byte whose origin is this trace's own, or another's.
    fn look_byte(&mut self, of: Option<&Self>, origin: Origin) {
        let whole = |t: &mut Self, Linear { word, .. }: Linear| {
            (0..8).for_each(|i| t.look_place(word.plus(i), 0xff));
        };
        match origin {
            Origin::Known | Origin::Derived(_) => {}
            Origin::Copy(place) => self.look_place(place, 0xff),
            Origin::Offset { id, .. } => {
                let linear = of.unwrap_or(self).linear(id);
                whole(self, linear);
            }
            Origin::Mixed(id) => {
                let bits = of.unwrap_or(self).mixed(id);
                bits.into_iter().for_each(|bit| self.look_bit_of(bit));
            }
        }
    }

    fn look_bit_of(&mut self, bit: BitOrigin) {
        if let BitOrigin::Copy(place, n) = bit {
            self.look_place(place, 1 << n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Provenance;
    use super::*;

    #[test]
    fn a_value_that_came_from_two_places_is_looked_at() {
        let (rax, rbx) = (Register::Gpr(0), Register::Gpr(3));
        let (mut one, mut two) = (Traced::new(), Traced::new());
        one.set_memory(64, 8, one.register(rax));
        two.set_memory(64, 8, two.register(rbx));
        let mut joined = one.clone();
        joined.join(&one, |_| true);
        assert_eq!(joined.looked().count(), 0);
        assert!(joined.holds(64, rax));
        joined.join(&two, |paddr| !(64..72).contains(&paddr));
        assert_eq!(joined.looked().count(), 0, "what does not matter may differ");
        joined.join(&two, |_| true);
        let looked: Vec<_> = joined.looked().map(|(place, _)| place).collect();
        assert!((0..8).all(|i| looked.contains(&Place::Register(rax, i)) && looked.contains(&Place::Register(rbx, i))));
    }
}
