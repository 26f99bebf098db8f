//! A bit for each of the 256 vectors.

/// A set of vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bits([u32; 8]);

impl Bits {
    /// Adds a vector.
    pub fn set(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] |= 1 << (vector % 32);
    }

    /// Takes a vector away.
    pub fn clear(&mut self, vector: u8) {
        self.0[usize::from(vector / 32)] &= !(1 << (vector % 32));
    }

    /// The vector of the highest priority.
    pub fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|word| *word != 0)?;
        Some((32 * word as u32 + self.0[word].ilog2()) as u8)
    }

    /// The register `offset` bytes after the first: 32 vectors every 16 bytes; 0 where there is none.
    pub fn word(&self, offset: u64) -> u32 {
        if !offset.is_multiple_of(16) {
            return 0;
        }
        self.0.get((offset / 16) as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_found_and_each_lies_in_its_word() {
        let mut bits = Bits::default();
        assert_eq!(bits.highest(), None);
        for vector in [0, 31, 32, 200, 255] {
            bits.set(vector);
            assert_eq!(bits.highest(), Some(vector));
            assert_ne!(bits.word(u64::from(vector / 32) * 16) & 1 << (vector % 32), 0);
        }
        bits.clear(255);
        assert_eq!(bits.highest(), Some(200));
        assert_eq!(bits.word(0x74), 0, "between two registers is nothing");
    }
}
