//! Instructions and registers that Rust does not have.

use core::arch::asm;

/// Extended features (SDM vol. 3, 2.2.1).
const EFER: u32 = 0xc000_0080;
/// SYSCALL and SYSRET exist.
const EFER_SCE: u64 = 1 << 0;
/// Long mode is enabled.
const EFER_LME: u64 = 1 << 8;
/// Long mode is active.
const EFER_LMA: u64 = 1 << 10;
/// Pages may be no code.
const EFER_NXE: u64 = 1 << 11;
/// SSE instructions may be executed (SDM vol. 3, 2.5).
const CR4_OSFXSR: u64 = 1 << 9;
/// The kernel, too, may not write what is read-only.
const CR0_WP: u64 = 1 << 16;

/// Selectors that SYSCALL (bits 47:32) and SYSRET (63:48) load.
pub const STAR: u32 = 0xc000_0081;
/// RIP after SYSCALL.
pub const LSTAR: u32 = 0xc000_0082;
/// RFLAGS that SYSCALL clears.
pub const FMASK: u32 = 0xc000_0084;
/// Base address of the GS segment.
pub const GS_BASE: u32 = 0xc000_0101;
/// What `swapgs` exchanges with [`GS_BASE`].
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Writes a model-specific register.
///
/// # Safety
/// The running code must be right with `value` in that register.
pub unsafe fn write_msr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller vouches for the value.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack, preserves_flags));
    }
}

/// Reads a model-specific register.
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading those of this kernel has no effect.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// The model-specific register that stands for IA32_SPEC_CTRL: IA32_SYSENTER_ESP.
pub const SPEC_CTRL: u32 = 0x175;
/// Its value in the kernel.
pub const SPEC_CTRL_KERNEL: u64 = 1;
/// Gives it the kernel's value.
pub fn load_kernel_spec_ctrl() {
    // SAFETY: nothing executes SYSENTER.
    unsafe { write_msr(SPEC_CTRL, SPEC_CTRL_KERNEL) };
}

/// Its value for user code.
pub const SPEC_CTRL_USER: u64 = 4;

/// DR7 without breakpoints; the bit always reads as one (SDM vol. 3, 19.2.4).
pub const DR7_OFF: u64 = 1 << 10;
/// DR7 with the first breakpoint enabled, for instructions.
pub const DR7_FIRST: u64 = DR7_OFF | 1;

/// DR7.
#[inline(always)]
pub fn dr7() -> u64 {
    let dr7: u64;
    // SAFETY: reading DR7 has no effect.
    unsafe { asm!("mov {}, dr7", out(reg) dr7, options(nomem, nostack, preserves_flags)) };
    dr7
}

/// Sets DR7.
///
/// # Safety
/// The #DBs of the breakpoints that it enables must be expected.
#[inline(always)]
pub unsafe fn set_dr7(dr7: u64) {
    // SAFETY: the caller expects what follows.
    unsafe { asm!("mov dr7, {}", in(reg) dr7, options(nostack, preserves_flags)) };
}

/// Has the first breakpoint at the instruction at `address`, enabled.
///
/// # Safety
/// As for [`set_dr7`].
pub unsafe fn set_breakpoint(address: u64) {
    // SAFETY: an address alone does nothing.
    unsafe { asm!("mov dr0, {}", in(reg) address, options(nostack, preserves_flags)) };
    // SAFETY: the caller expects what DR7 enables.
    unsafe { set_dr7(DR7_FIRST) };
}

/// Lets vector instructions be executed.
pub fn enable_vectors() {
    // SAFETY: only CR4.OSFXSR changes.
    unsafe {
        asm!(
            "mov {tmp}, cr4",
            "or {tmp}, {bit}",
            "mov cr4, {tmp}",
            tmp = out(reg) _,
            bit = const CR4_OSFXSR,
            options(nostack),
        );
    }
}

/// Makes read-only pages read-only for the kernel, too, and lets pages be marked as not code.
pub fn enable_protections() {
    // SAFETY: the boot tables are writable and executable throughout, and long
    // mode, which the write keeps, is on.
    unsafe { write_msr(EFER, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE) };
    // SAFETY: only CR0.WP changes, and the kernel honours its own tables.
    unsafe {
        asm!(
            "mov {tmp}, cr0",
            "or {tmp}, {wp}",
            "mov cr0, {tmp}",
            tmp = out(reg) _,
            wp = const CR0_WP,
            options(nostack),
        );
    }
}

/// The physical address of the current root page table.
#[inline(always)]
pub fn root() -> u64 {
    let cr3: u64;
    // SAFETY: reading CR3 has no effect.
    unsafe { asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags)) };
    cr3
}

/// Makes the page table at physical address `root` the current one.
///
/// # Safety
/// It must map the kernel as the current one does.
#[inline(always)]
pub unsafe fn set_root(root: u64) {
    // SAFETY: the caller's; memory is not clobbered beyond what it may see.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// Stops: no interrupt is enabled that would end the HLT.
pub fn halt() -> ! {
    loop {
        // SAFETY: halting affects no memory.
        unsafe { asm!("hlt", options(nomem, nostack, preserves_flags)) };
    }
}
