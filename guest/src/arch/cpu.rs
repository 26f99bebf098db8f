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
