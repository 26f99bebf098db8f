//! Bytes of guest memory.

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Bytes of memory: the guest-physical address of the first, and how many.
pub type Bytes = (u64, u64);

/// Whether two accesses have a byte in common.
pub fn overlap((a, len_a): Bytes, (b, len_b): Bytes) -> bool {
    a < b + len_b && b < a + len_a
}
