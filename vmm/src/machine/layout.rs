//! Where in guest memory lies what is the lab's own. All of it is below the least address of an
//! image ([`IMAGE_MIN_PADDR`], 1 MiB), so that no image can be over it.

use std::ops::Range;

use guest::abi::IMAGE_MIN_PADDR;

/// The boot GDT, three descriptors: after the real mode's vectors and the BIOS's data, where
/// every PC has free memory. That it is not in the first bytes makes a null pointer show.
pub const GDT: u64 = 0x500;
/// A few bytes of code that are executed before the guest's first instruction, or in a machine
/// without a guest, and then removed: after the GDT, in the same page.
pub const OWN_CODE: u64 = 0x800;
/// The boot page tables: all that is left below the legacy hole at 640 KiB.
pub const TABLES: Range<u64> = 0x1000..0xa_0000;
/// RAM of a machine without a guest, in which something is measured: the least that has room
/// beyond the boot tables.
pub const MEASURING_RAM: u64 = 0x20_0000;

const _: () = assert!(TABLES.end <= IMAGE_MIN_PADDR && IMAGE_MIN_PADDR < MEASURING_RAM);
