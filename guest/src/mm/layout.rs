//! Where things are in the virtual address space, and what the bits of a page-table entry
//! mean. The linker script repeats the addresses that it places things at; boot compares.

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of a page that a second-level entry maps.
pub const LARGE_PAGE: u64 = 2 << 20;
/// Entries of a table of any level.
pub const ENTRIES: usize = 512;
/// Bytes that one top-level entry covers.
pub const SLOT: u64 = 1 << 39;

// Bits of a page-table entry (SDM vol. 3, 4.5).
/// The entry maps a page or a table.
pub const PRESENT: u64 = 1 << 0;
/// What it maps may be written; every entry on the way must say so.
pub const WRITE: u64 = 1 << 1;
/// User code may reach it; every entry on the way must say so.
pub const USER: u64 = 1 << 2;
/// It was used. Set from the start, so that the CPU never writes a table: a write after
/// *ready* would be memory that a run changes.
pub const ACCESSED: u64 = 1 << 5;
/// It was written to. Set from the start, likewise.
pub const DIRTY: u64 = 1 << 6;
/// A second-level entry maps a large page.
pub const LARGE: u64 = 1 << 7;
/// What it maps is not code; EFER.NXE is on.
pub const NO_EXECUTE: u64 = 1 << 63;
/// The physical address of what it maps, or of the next table.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Where a process sees its page of code. Below 4 GiB, so that 32-bit code reaches it, and
/// in a top-level slot that the kernel does not use.
pub const USER_TEXT: u64 = 0x4000_0000;
/// Where it sees its page of data; the upper half is its stack. GS's base in user mode, and
/// the base of a segment of the LDT.
pub const USER_DATA: u64 = USER_TEXT + PAGE;
/// The user's stack pointer when it has used nothing of its stack.
pub const USER_SP: u64 = USER_DATA + PAGE;
/// All of RAM, in large pages. Linux has it here; a slot that every root has, so an access
/// never faults.
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// The vmalloc area, where Linux has it: slots of its own, which a root may lack.
pub const VMALLOC: u64 = 0xffff_c900_0000_0000;
/// Slots of the vmalloc area: one for what boot allocates, one for what the work does.
pub const VMALLOC_SLOTS: usize = 2;
/// Where each process may see the GDT: a slot for each, which the others' roots lack.
pub const GDT_WINDOWS: u64 = 0xffff_f000_0000_0000;
/// Where the small stack of returns to 16-bit stacks is seen again and again. In the image's
/// slot, so that every root has it.
pub const ESPFIX: u64 = 0xffff_ff90_0000_0000;
/// Bytes from there on: all that bits 31:0 of an address may be.
pub const ESPFIX_BYTES: u64 = 1 << 32;
/// What the image's virtual addresses exceed its physical ones by: code-model=kernel wants
/// the last 2 GiB.
pub const IMAGE_OFFSET: u64 = 0xffff_ffff_8000_0000;

/// The slot of the vmalloc area's first top-level entry.
pub const VMALLOC_SLOT: usize = slot(VMALLOC);

/// The slots that a new root gets from the reference: direct map, vmalloc, image. A
/// short list instead of half a table, since every entry copied is a few more
/// boundaries to inject at.
pub const KERNEL_SLOTS: [usize; 4] = [slot(DIRECT_MAP), VMALLOC_SLOT, VMALLOC_SLOT + 1, slot(IMAGE_OFFSET)];

/// The index of `address` in a root table.
pub const fn slot(address: u64) -> usize {
    (address / SLOT) as usize % ENTRIES
}

/// The first byte of the page that `address` lies in.
pub const fn page_of(address: u64) -> u64 {
    address - offset_in_page(address)
}

/// The bytes between it and `address`.
pub const fn offset_in_page(address: u64) -> u64 {
    address % PAGE
}

/// The direct map's address of a physical one.
pub const fn direct(physical: u64) -> u64 {
    DIRECT_MAP + physical
}

/// The physical address of one in the image.
pub const fn physical(image: u64) -> u64 {
    image - IMAGE_OFFSET
}

unsafe extern "C" {
    static user_pages: u8;
}

/// The physical address of the page of user code.
pub fn user_text() -> u64 {
    physical(&raw const user_pages as u64)
}

/// The physical address of the page of user data.
pub fn user_data() -> u64 {
    user_text() + PAGE
}

// Notes of the manifest name the vmalloc entries of each root by these offsets (process.rs).
const _: () = assert!(VMALLOC_SLOT * size_of::<u64>() == 0xc90 && PAGE == 0x1000);
// The base of a descriptor, and the stack of 32-bit code.
const _: () = assert!(USER_SP >> 32 == 0);
const _: () = assert!(slot(ESPFIX) == slot(IMAGE_OFFSET));
