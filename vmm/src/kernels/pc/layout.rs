//! Where the boot loader puts what a kernel is started with. All of it is in the low RAM, which
//! a kernel of the 64-bit boot protocol leaves alone until it has read it.

/// The GDT: after the real mode's vectors and the BIOS's data.
pub const GDT: u64 = 0x500;
/// `struct boot_params`, one page.
pub const ZERO_PAGE: u64 = 0x7000;
/// Page tables for the first 4 GiB in pages of 2 MiB: six pages.
pub const TABLES: u64 = 0x9000;
/// Multiboot's information structure and all that it points to but the command line.
pub const MULTIBOOT: u64 = 0x1_0000;
/// The BIOS's data: the segment of its extended part, which begins where the low RAM ends.
pub const BIOS_SEGMENT: u64 = 0x40e;
/// The BIOS's data: KiB of low RAM.
pub const BIOS_KIB: u64 = 0x413;
/// The command line, after the page tables.
pub const CMDLINE: u64 = 0x2_0000;
/// Most bytes of a command line, with the zero at its end (Linux's `COMMAND_LINE_SIZE` on x86).
pub const CMDLINE_MAX: usize = 2048;
/// Where the low RAM ends: a PC's BIOS keeps the last KiB below 640 KiB.
pub const LOW_END: u64 = 0x9_fc00;
/// Where the high RAM begins, and kernels are loaded.
pub const HIGH: u64 = 0x10_0000;

const _: () = assert!(ZERO_PAGE + 0x1000 <= TABLES && TABLES + 6 * 0x1000 <= CMDLINE);
const _: () = assert!(TABLES + 6 * 0x1000 <= MULTIBOOT && MULTIBOOT < CMDLINE);
const _: () = assert!(CMDLINE + CMDLINE_MAX as u64 <= LOW_END);
