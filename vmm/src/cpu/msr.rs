//! Numbers of model-specific registers (SDM vol. 4, table 2-2).

/// Those that RDMSR reads time from.
pub const TIME_MSRS: [u32; 3] = [TSC, MPERF, APERF];

/// IA32_TIME_STAMP_COUNTER.
pub const TSC: u32 = 0x10;
/// What RDTSCP loads into ECX.
pub const TSC_AUX: u32 = 0xc000_0103;
/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_SPEC_CTRL. CPUID decides which of its bits there are, and whether there is one.
pub const SPEC_CTRL: u32 = 0x48;
/// IA32_MPERF, which counts at the rate of the time-stamp counter.
pub const MPERF: u32 = 0xe7;
/// IA32_APERF, which counts cycles.
pub const APERF: u32 = 0xe8;
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
