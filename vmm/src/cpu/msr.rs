//! Numbers of model-specific registers (SDM vol. 4, table 2-2).

/// IA32_TIME_STAMP_COUNTER.
pub const TSC: u32 = 0x10;
/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_MISC_ENABLE.
pub const MISC_ENABLE: u32 = 0x1a0;
/// IA32_MTRR_DEF_TYPE.
pub const MTRR_DEF_TYPE: u32 = 0x2ff;
/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// IA32_STAR: the selectors that SYSCALL and SYSRET load.
pub const STAR: u32 = 0xc000_0081;
/// IA32_LSTAR: where SYSCALL goes.
pub const LSTAR: u32 = 0xc000_0082;
/// IA32_FMASK: the flags that SYSCALL clears.
pub const FMASK: u32 = 0xc000_0084;
/// IA32_FS_BASE.
pub const FS_BASE: u32 = 0xc000_0100;
/// IA32_GS_BASE.
pub const GS_BASE: u32 = 0xc000_0101;
/// IA32_KERNEL_GS_BASE, which SWAPGS exchanges with GS's base.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
