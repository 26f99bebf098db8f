//! Vectors of the CPU's own events (SDM vol. 3, table 6-1).

/// #DB: a single step (TF), or a breakpoint of the debug registers.
pub const DEBUG: u8 = 1;
/// The NMI. In mode pv its gate leads nowhere: the hypervisor delivers it.
pub const NMI: u8 = 2;
/// #BP: `int3`; its frame's RIP is after the instruction.
pub const BREAKPOINT: u8 = 3;
/// #UD: an instruction that the CPU does not know, or `ud2`.
pub const INVALID_OPCODE: u8 = 6;
/// #DF: a fault while another was delivered. The handler cannot return.
pub const DOUBLE_FAULT: u8 = 8;
/// #NP: a descriptor whose Present bit is clear. With an error code: the selector.
pub const SEGMENT_NOT_PRESENT: u8 = 11;
/// #GP: what no other exception names. With an error code.
pub const GENERAL_PROTECTION: u8 = 13;
/// #PF: a page that is not mapped, or not so. With an error code; the address is in CR2.
pub const PAGE_FAULT: u8 = 14;
/// #MC: a machine check. It comes at any boundary, whatever is masked.
pub const MACHINE_CHECK: u8 = 18;
/// The maskable interrupt of the only device that there could be.
pub const INTERRUPT: u8 = 32;

/// Number of vectors that the CPU keeps for its own events: 0 to 31.
pub const EXCEPTIONS: usize = 32;
/// Number of all vectors.
pub const COUNT: usize = 256;
