//! Entries of page tables (SDM vol. 3, tables 4-15 to 4-20), alike on all levels.

/// The entry maps something (P).
pub const PRESENT: u64 = 1;
/// What is below may be written (R/W).
pub const WRITE: u64 = 1 << 1;
/// What is below may be accessed at CPL 3 (U/S).
pub const USER: u64 = 1 << 2;
/// Set by the CPU at the first use (A).
pub const ACCESSED: u64 = 1 << 5;
/// Set by the CPU at the first write to the page (D).
pub const DIRTY: u64 = 1 << 6;
/// The entry maps a page of 2 MiB or 1 GiB instead of a table (PS).
pub const LARGE: u64 = 1 << 7;
/// What is below may not be executed, with EFER.NXE (XD).
pub const NX: u64 = 1 << 63;
/// The physical address of the table or page, with 52 bits of physical addresses. The same bits
/// of CR3 say where the root is: the others are flags, and the address space's number.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
