//! A set of stack words.

/// 64-bit pieces of a set.
const BLOCKS: usize = 64;

/// A set of stack words, by number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Words([u64; BLOCKS]);

impl Words {
    /// How many words can be told apart: 32 KiB of declared stacks.
    pub const MOST: usize = BLOCKS * 64;
    /// The empty set.
    pub const NONE: Self = Self([0; BLOCKS]);

    /// Adds a word.
    pub fn set(&mut self, word: usize) {
        self.0[word / 64] |= 1 << (word % 64);
    }

    /// Whether it holds the word.
    pub fn has(&self, word: usize) -> bool {
        self.0[word / 64] >> (word % 64) & 1 != 0
    }

    /// Adds those of another.
    pub fn union(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Keeps those that are in the other, too.
    pub fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    /// Those that are not in the other.
    pub fn minus(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
        self
    }

    /// Whether all are in the other.
    pub fn within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave_as_sets() {
        let of = |list: &[usize]| {
            let mut out = Words::NONE;
            list.iter().for_each(|w| out.set(*w));
            out
        };
        let (a, b) = (of(&[0, 63, 64, 4095]), of(&[63, 64]));
        assert!(b.within(&a) && !a.within(&b));
        assert!(a.minus(&b) == of(&[0, 4095]));
        let mut c = a;
        c.intersect(&b);
        assert!(c == b);
        c.union(&of(&[0, 4095]));
        assert!(c == a && c.has(4095) && !c.has(1));
    }
}
