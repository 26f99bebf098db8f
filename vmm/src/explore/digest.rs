//! Hashes of whole states.

use std::hash::Hasher;

/// The 128-bit hash of what `feed` writes. Many small writes are gathered and hashed
/// at once, which is several times as fast as one by one.
pub fn digest(bytes: &mut Vec<u8>, feed: impl FnOnce(&mut Gather)) -> u128 {
    bytes.clear();
    feed(&mut Gather(bytes));
    xxhash_rust::xxh3::xxh3_128(bytes)
}

/// Gathers what is hashed.
pub struct Gather<'a>(&'a mut Vec<u8>);

impl Hasher for Gather<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.0)
    }
}
