//! Selectors, segment descriptors and gates, made from their named bits
//! (SDM vol. 3, 3.4.2, 3.4.5, 6.14.1 and 7.2.3).

/// Bits of a selector: the privilege that is asked for, or that code runs at.
pub const RING3: u16 = 3;
/// Bit of a selector: the descriptor is in the LDT.
pub const IN_LDT: u16 = 1 << 2;

/// The selector of descriptor `index`, with the bits `flags` ([`RING3`], [`IN_LDT`]).
pub const fn selector(index: usize, flags: u16) -> u16 {
    (index as u16) << 3 | flags
}

/// The byte of a descriptor that has [`PRESENT`].
pub const ACCESS_BYTE: usize = 5;
/// In that byte, the segment is present.
pub const ACCESS_PRESENT: u8 = 1 << 7;
/// The segment is present.
pub const PRESENT: u64 = (ACCESS_PRESENT as u64) << ACCESS;

/// Where the access byte begins in a descriptor.
const ACCESS: u32 = 8 * ACCESS_BYTE as u32;
/// Code or data, not a system segment.
const MEMORY: u64 = 1 << 44;
/// Set from the start, so that the CPU never writes the table.
const ACCESSED: u64 = 1 << 40;
/// Data that can be written, code that can be read.
const WRITE_OR_READ: u64 = 1 << 41;
const CODE: u64 = 1 << 43;
/// User code may load it.
const DPL3: u64 = 3 << 45;
/// 64-bit code. [`BIG`] must be clear.
const LONG: u64 = 1 << 53;
/// 32-bit code, or a stack with a 32-bit pointer.
const BIG: u64 = 1 << 54;
/// The limit counts pages.
const PAGES: u64 = 1 << 55;

/// A data segment of 64 KiB at 0.
const DATA_16: u64 = limit(0xffff) | PRESENT | MEMORY | WRITE_OR_READ | ACCESSED;
/// All of 4 GiB; 64-bit code looks at no limit.
const FLAT: u64 = limit(0xf_ffff) | PAGES | PRESENT | MEMORY | WRITE_OR_READ | ACCESSED;

/// Kernel code, 64-bit.
pub const KERNEL_CODE: u64 = FLAT | CODE | LONG;
/// Kernel data and stack.
pub const KERNEL_DATA: u64 = FLAT | BIG;
/// User data and stack.
pub const USER_DATA: u64 = KERNEL_DATA | DPL3;
/// User code, 64-bit.
pub const USER_CODE: u64 = KERNEL_CODE | DPL3;
/// User code, 32-bit.
pub const USER_CODE_32: u64 = FLAT | CODE | BIG | DPL3;

/// A user's 16-bit stack of 64 KiB at `base`, which must be below 4 GiB.
pub const fn user_stack_16(base: u64) -> u64 {
    DATA_16 | DPL3 | low_base(base)
}

/// What a system descriptor names.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum System {
    /// A table of descriptors that a process has of its own.
    Ldt = 0x2,
    /// A 64-bit TSS. `ltr` wants an available one, and sets its Busy bit.
    AvailableTss = 0x9,
}

/// The two words of a system descriptor: `bytes` bytes at `base`.
pub const fn system(kind: System, base: u64, bytes: u64) -> [u64; 2] {
    [limit(bytes - 1) | low_base(base) | PRESENT | (kind as u64) << ACCESS, base >> 32]
}

const fn limit(limit: u64) -> u64 {
    limit & 0xffff | (limit >> 16 & 0xf) << 48
}

/// Bits 31:0 of a segment's base.
const fn low_base(base: u64) -> u64 {
    (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56
}

/// The two words of a present interrupt gate for privilege 0: code at `target` in segment
/// `cs`, on the TSS's stack number `ist` (0: the interrupted stack).
pub const fn interrupt_gate(target: u64, cs: u16, ist: u8) -> [u64; 2] {
    const INTERRUPT_GATE: u64 = 0xe;
    let low = target & 0xffff | (cs as u64) << 16 | (ist as u64) << 32 | INTERRUPT_GATE << ACCESS | PRESENT;
    [low | (target >> 16 & 0xffff) << 48, target >> 32]
}

const _: () = assert!(KERNEL_CODE == 0x00af_9b00_0000_ffff && USER_DATA == 0x00cf_f300_0000_ffff);
const _: () = assert!(KERNEL_DATA == 0x00cf_9300_0000_ffff && USER_CODE == 0x00af_fb00_0000_ffff);
const _: () = assert!(USER_CODE_32 == 0x00cf_fb00_0000_ffff && user_stack_16(0) == 0x0000_f300_0000_ffff);
