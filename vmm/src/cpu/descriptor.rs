//! Segment descriptors (SDM vol. 3, 3.4.5).

/// The segment is present (P).
pub const PRESENT: u64 = 1 << 47;
/// It is a code or data segment and not one of the system's (S).
pub const CODE_OR_DATA: u64 = 1 << 44;
/// It is a code segment.
pub const EXECUTABLE: u64 = 1 << 43;
/// Code that runs at the privilege of its caller (C).
pub const CONFORMING: u64 = 1 << 42;
/// Data that may be written (W).
pub const WRITABLE: u64 = 1 << 41;
/// 64-bit code (L).
pub const LONG: u64 = 1 << 53;
/// 32-bit code or stack (D/B).
pub const BIG: u64 = 1 << 54;
/// Flat 64-bit code at DPL 0, accessed.
pub const FLAT_CODE: u64 = 0x00af_9b00_0000_ffff;
/// Flat writable data at DPL 0, accessed.
pub const FLAT_DATA: u64 = 0x00cf_9300_0000_ffff;
