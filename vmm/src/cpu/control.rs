//! Bits of the control registers and of EFER (SDM vol. 3, 2.5 and 2.2.1).

/// Protected mode.
pub const CR0_PE: u64 = 1;
/// WAIT heeds TS.
pub const CR0_MP: u64 = 1 << 1;
/// FPU and vector instructions raise #NM.
pub const CR0_TS: u64 = 1 << 3;
/// Always set.
pub const CR0_ET: u64 = 1 << 4;
/// FPU errors raise #MF.
pub const CR0_NE: u64 = 1 << 5;
/// The kernel, too, may not write to read-only pages.
pub const CR0_WP: u64 = 1 << 16;
/// RFLAGS.AC checks alignment at CPL 3.
pub const CR0_AM: u64 = 1 << 18;
/// Not write-through.
pub const CR0_NW: u64 = 1 << 29;
/// Caches are off.
pub const CR0_CD: u64 = 1 << 30;
/// Paging.
pub const CR0_PG: u64 = 1 << 31;

/// Debug extensions.
pub const CR4_DE: u64 = 1 << 3;
/// Physical address extension, which 64-bit mode needs.
pub const CR4_PAE: u64 = 1 << 5;
/// SGDT, SIDT, SLDT, SMSW and STR fault at CPL 3.
pub const CR4_UMIP: u64 = 1 << 11;
/// Five levels of page tables.
pub const CR4_LA57: u64 = 1 << 12;
/// RDFSBASE and the like.
pub const CR4_FSGSBASE: u64 = 1 << 16;
/// Process-context identifiers.
pub const CR4_PCIDE: u64 = 1 << 17;
/// The kernel may not execute user pages.
pub const CR4_SMEP: u64 = 1 << 20;
/// The kernel may not access user pages unless RFLAGS.AC is set.
pub const CR4_SMAP: u64 = 1 << 21;
/// Protection keys, CET, supervisor keys, user interrupts, LASS, LAM_SUP, FRED.
pub(super) const CR4_UNKNOWN: u64 = 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 28 | 1 << 32;

/// SYSCALL and SYSRET.
pub const EFER_SCE: u64 = 1;
/// Long mode is enabled.
pub const EFER_LME: u64 = 1 << 8;
/// Long mode is active.
pub const EFER_LMA: u64 = 1 << 10;
/// Page-table entries have an NX bit.
pub const EFER_NXE: u64 = 1 << 11;
