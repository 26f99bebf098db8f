//! Where things are in the machine that forms run in. All of it is mapped one to one.

use crate::cpu::descriptor::{FLAT_CODE, FLAT_DATA};

pub(super) const GDT: u64 = 0x1000;
pub(super) const LDT: u64 = 0x1400;
pub(super) const TSS: u64 = 0x1800;
pub(super) const IDT: u64 = 0x2000;
pub(super) const TABLES: u64 = 0x3000;
/// Handler of vector v: a HLT at 16 bytes from here + 16 v.
pub(super) const HANDLERS: u64 = 0x7000;
/// Code, two pages full of HLT.
pub(super) const CODE: u64 = 0x8000;
/// Data, two pages.
pub(super) const DATA: u64 = 0xa000;
/// A page that is not present.
pub(super) const UNMAPPED: u64 = 0xc000;
/// A page that is read-only.
pub(super) const READ_ONLY: u64 = 0xd000;
/// Where SYSCALL leads to.
pub(super) const SYSCALL_ENTRY: u64 = 0xe000;
/// The stack that code runs on, two pages; the page after it is not mapped.
pub(super) const STACK: u64 = 0xf000;
pub(super) const STACK_END: u64 = 0x1_1000;
/// Tops of the stacks of NMIs, faults, #DF, and entries from CPL 3; a page each.
pub(super) const NMI_STACK: u64 = 0x1_3000;
pub(super) const FAULT_STACK: u64 = 0x1_4000;
pub(super) const DF_STACK: u64 = 0x1_5000;
pub(super) const RSP0: u64 = 0x1_6000;
/// Pages of CPL 3: code (two), data (two, the first also writable at CPL 0), stack (two).
pub(super) const USER_CODE: u64 = 0x1_6000;
pub(super) const USER_DATA: u64 = 0x1_8000;
pub(super) const USER_STACK: u64 = 0x1_a000;
/// Bytes of RAM.
pub const RAM: u64 = 0x1_d000;

pub(super) const KERNEL_CS: u64 = 0x08;
pub(super) const KERNEL_SS: u64 = 0x10;
pub(super) const USER_SS: u64 = 0x20 | 3;
pub(super) const USER_CS: u64 = 0x28 | 3;
pub(super) const TR: u64 = 0x30;

/// The GDT. After the ones every machine has: code not present, data not present, 16-bit
/// data, the LDT, a free TSS, conforming code, execute-only code, expand-down data.
pub(super) const DESCRIPTORS: [u64; 17] = [
    0,
    FLAT_CODE,
    FLAT_DATA,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x0000_8b00_0000_0067 | TSS << 16,
    0,
    0x00af_1b00_0000_ffff,
    0x00cf_7300_0000_ffff,
    0x0000_f300_0000_ffff,
    0x0000_8200_0000_000f | LDT << 16,
    0,
    0x0000_8900_0000_0067 | TSS << 16,
    0,
    0x00af_9f00_0000_ffff,
    0x00cf_9200_0000_ffff,
];

pub(super) const LOCAL_DESCRIPTORS: [u64; 2] = [FLAT_DATA, 0x0000_f300_0000_ffff];

/// Selectors that are good for something, or almost.
pub(super) const SELECTORS: [u64; 22] = [
    0, 3, 0x08, 0x0b, 0x10, 0x13, 0x18, 0x1b, 0x20, 0x23, 0x28, 0x2b, 0x30, 0x40, 0x48, 0x4b, 0x50, 0x53, 0x78, 0x80,
    0x1f8, 0x04,
];
