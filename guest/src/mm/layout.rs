//! Where things are in the virtual address space.

/// Bytes that one top-level entry covers.
pub const SLOT: u64 = 1 << 39;

/// Where a process sees its page of code.
pub const USER_TEXT: u64 = 0x4000_0000;
/// Where it sees its page of data; the upper half is its stack.
pub const USER_DATA: u64 = USER_TEXT + 0x1000;
/// The user's stack pointer when it has used nothing of its stack.
pub const USER_SP: u64 = USER_DATA + 0x1000;
/// All of RAM, in large pages, never faults.
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// The vmalloc area: two slots of its own.
pub const VMALLOC: u64 = 0xffff_c900_0000_0000;
/// Number of slots in the vmalloc area.
pub const VMALLOC_SLOTS: usize = 2;
/// The first of the addresses at which the small stack of returns to 16-bit stacks is seen;
/// 4 GiB of them (as in the linker script).
pub const ESPFIX: u64 = 0xffff_ff90_0000_0000;
/// Where each process may see the GDT: a slot for each.
pub const GDT_WINDOWS: u64 = 0xffff_f000_0000_0000;
/// What the image's virtual addresses exceed its physical ones by.
const IMAGE_OFFSET: u64 = 0xffff_ffff_8000_0000;

/// The slot of the vmalloc area's first top-level entry.
pub const VMALLOC_SLOT: usize = slot(VMALLOC);

/// The slots a new root gets from the reference: direct map, vmalloc, image. A
/// short list instead of half a table, since every entry copied is a few more
/// boundaries to inject at.
pub const KERNEL_SLOTS: [usize; 4] = [slot(DIRECT_MAP), VMALLOC_SLOT, VMALLOC_SLOT + 1, slot(IMAGE_OFFSET)];

/// The index of `address` in a root table.
pub const fn slot(address: u64) -> usize {
    (address / SLOT) as usize % 512
}

/// The direct map's address of a physical one.
pub const fn direct(physical: u64) -> u64 {
    DIRECT_MAP + physical
}

/// The physical address of one in the image.
pub const fn physical(image: u64) -> u64 {
    image - IMAGE_OFFSET
}

// The manifest names the vmalloc entries of each root by these offsets.
const _: () = assert!(VMALLOC_SLOT * 8 == 0xc90);
