//! Bits of the control registers and of EFER (SDM vol. 3, 2.5).

pub(super) const CR0_PE: u64 = 1;
pub(super) const CR0_TS: u64 = 1 << 3;
pub(super) const CR0_WP: u64 = 1 << 16;
pub(super) const CR0_AM: u64 = 1 << 18;
pub(super) const CR0_NW: u64 = 1 << 29;
pub(super) const CR0_CD: u64 = 1 << 30;
pub(super) const CR0_PG: u64 = 1 << 31;

pub(super) const CR4_DE: u64 = 1 << 3;
pub(super) const CR4_PAE: u64 = 1 << 5;
pub(super) const CR4_UMIP: u64 = 1 << 11;
pub(super) const CR4_LA57: u64 = 1 << 12;
pub(super) const CR4_FSGSBASE: u64 = 1 << 16;
pub(super) const CR4_PCIDE: u64 = 1 << 17;
pub(super) const CR4_SMEP: u64 = 1 << 20;
pub(super) const CR4_SMAP: u64 = 1 << 21;
/// Protection keys, CET, supervisor keys, user interrupts, LASS, LAM_SUP, FRED.
pub(super) const CR4_UNKNOWN: u64 = 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 28 | 1 << 32;

pub(super) const EFER_SCE: u64 = 1;
pub(super) const EFER_LMA: u64 = 1 << 10;
pub(super) const EFER_NXE: u64 = 1 << 11;
