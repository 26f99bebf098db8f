//! Bits of RFLAGS (SDM vol. 1, 3.4.3).

/// The one bit that is always set.
pub const FIXED: u64 = 1 << 1;
/// Zero flag: the last result was zero.
pub const ZF: u64 = 1 << 6;
/// Trap flag: a #DB after each instruction.
pub const TF: u64 = 1 << 8;
/// Interrupt flag: maskable interrupts are delivered. NMIs are, either way.
pub const IF: u64 = 1 << 9;
/// Direction flag: string instructions go downwards. Compiled code wants it clear.
pub const DF: u64 = 1 << 10;
/// I/O privilege level, two bits.
pub const IOPL: u64 = 3 << 12;
/// Nested task: an iretq under it faults.
pub const NT: u64 = 1 << 14;
/// Resume flag, which only a frame can set.
pub const RF: u64 = 1 << 16;
/// Alignment check; with SMAP, access to user memory.
pub const AC: u64 = 1 << 18;
/// CPUID may be used.
pub const ID: u64 = 1 << 21;

/// TF's complement, as an operand of 32 bits.
pub const NOT_TF: i32 = !(TF as i32);
