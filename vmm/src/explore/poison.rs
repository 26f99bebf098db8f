//! What stands in the stack words that are held for dead, so that reading one changes the outcome.

/// The upper half of each. It is no canonical address, so that nothing can be read through it.
const UPPER: u64 = 0x5eed_dead << 32;

/// The poison of a word: no two have the same, and no byte of it is zero.
pub fn of(index: usize) -> u64 {
    UPPER | u64::from((index as u32).wrapping_mul(0x9e37_79b1) | 0x0101_0101)
}

/// Whether a value is some word's poison.
pub fn is_poison(value: u64) -> bool {
    value >> 32 == UPPER >> 32
}

/// Whether the guest has changed a word that is `now` so, stood as `kept` in the state at *ready*
/// and was `clean` before it was poisoned. What is left of the poison after a write of a part is
/// not the guest's.
pub fn is_changed(now: u64, kept: u64, clean: u64) -> bool {
    let bytes = now.to_le_bytes().into_iter().zip(kept.to_le_bytes()).zip(clean.to_le_bytes());
    bytes.into_iter().any(|((now, kept), clean)| now != kept && now != clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_a_part_changes_only_that_part() {
        let (kept, clean) = (of(7), 0x11);
        assert!(is_poison(kept) && !is_poison(clean));
        assert!(!is_changed(kept, kept, clean));
        assert!(!is_changed(kept & !0xff | 0x11, kept, clean), "a byte has what it had");
        assert!(is_changed(kept & !0xff | 0x12, kept, clean));
        assert!(is_changed(0x12, clean, clean) && !is_changed(clean, kept, clean), "without poison, and whole");
    }
}
