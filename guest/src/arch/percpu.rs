//! Per-CPU data, reached through GS.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use guest::abi;

use super::{cpu, stacks};
use crate::mm::layout;

/// What a CPU has of its own. Entry code reads and writes it as
/// `%gs:{OFFSET}`.
#[repr(C, align(64))]
pub struct PerCpu {
    /// The flag of `linus-2010`: an NMI is live.
    pub nmi_nesting: AtomicU64,
    /// The pointer of `linus-2010`: the live NMI's copied frame.
    pub nmi_stack_ptr: AtomicU64,
    /// A word for schemes that are broken on purpose.
    pub nmi_scratch: AtomicU64,
    /// A function that an NMI asks the interrupted code to call, or 0.
    pub deferred: AtomicU64,
    /// The user's RSP, for the few instructions of a system call's entry that have no
    /// other place for it.
    pub user_rsp: AtomicU64,
    /// Top of the stack that a system call runs on.
    pub thread_sp: AtomicU64,
    /// RSP of the kernel code that entered user mode, and goes on when the user leaves.
    pub user_return: AtomicU64,
    /// Where a return to a 16-bit stack writes its frame.
    pub espfix_waddr: AtomicU64,
    /// Where it reads it: the same memory, at an address whose bits 31:16 may be any.
    pub espfix_stack: AtomicU64,
    /// A machine check or an interrupt was handled: a flag and not a counter, so that states
    /// repeat.
    pub external_seen: AtomicU64,
    /// Top of the small stack that both page tables of a process map, where it has two.
    pub entry_sp: AtomicU64,
    /// The CR3 of boot, for a scheme that is wrong to remember it.
    pub boot_cr3: AtomicU64,
}

/// Offset of [`PerCpu::nmi_nesting`].
pub const NMI_NESTING: usize = offset_of!(PerCpu, nmi_nesting);
/// Offset of [`PerCpu::nmi_stack_ptr`].
pub const NMI_STACK_PTR: usize = offset_of!(PerCpu, nmi_stack_ptr);
/// Offset of [`PerCpu::nmi_scratch`].
pub const NMI_SCRATCH: usize = offset_of!(PerCpu, nmi_scratch);
/// Offset of [`PerCpu::deferred`].
pub const DEFERRED: usize = offset_of!(PerCpu, deferred);
/// Offset of [`PerCpu::user_rsp`].
pub const USER_RSP: usize = offset_of!(PerCpu, user_rsp);
/// Offset of [`PerCpu::thread_sp`].
pub const THREAD_SP: usize = offset_of!(PerCpu, thread_sp);
/// Offset of [`PerCpu::user_return`].
pub const USER_RETURN: usize = offset_of!(PerCpu, user_return);
/// Offset of [`PerCpu::espfix_waddr`].
pub const ESPFIX_WADDR: usize = offset_of!(PerCpu, espfix_waddr);
/// Offset of [`PerCpu::espfix_stack`].
pub const ESPFIX_STACK: usize = offset_of!(PerCpu, espfix_stack);
/// Offset of [`PerCpu::external_seen`].
pub const EXTERNAL_SEEN: usize = offset_of!(PerCpu, external_seen);
/// Offset of [`PerCpu::entry_sp`].
pub const ENTRY_SP: usize = offset_of!(PerCpu, entry_sp);
/// Offset of [`PerCpu::boot_cr3`].
pub const BOOT_CR3: usize = offset_of!(PerCpu, boot_cr3);

// The manifest names these words by their offsets.
lab_note!("scratch low=PERCPU+0x48 high=PERCPU+0x50");
const _: () = assert!(EXTERNAL_SEEN == 0x48);
const _: () = assert!(THREAD_SP as u64 == abi::ENTRY_THREAD_SP && ENTRY_SP as u64 == abi::ENTRY_TRAMPOLINE_SP);
const _: () = assert!(NMI_NESTING == 0 && NMI_STACK_PTR == 8 && NMI_SCRATCH == 16 && DEFERRED == 24);

/// The data of the only CPU.
#[unsafe(no_mangle)]
static PERCPU: PerCpu = PerCpu {
    nmi_nesting: AtomicU64::new(0),
    nmi_stack_ptr: AtomicU64::new(0),
    nmi_scratch: AtomicU64::new(0),
    deferred: AtomicU64::new(0),
    user_rsp: AtomicU64::new(0),
    thread_sp: AtomicU64::new(0),
    user_return: AtomicU64::new(0),
    espfix_waddr: AtomicU64::new(0),
    espfix_stack: AtomicU64::new(0),
    external_seen: AtomicU64::new(0),
    entry_sp: AtomicU64::new(0),
    boot_cr3: AtomicU64::new(0),
};

/// Calls what an NMI left to be called, once.
#[inline(always)]
pub fn run_deferred() {
    let function = PERCPU.deferred.load(Relaxed);
    if function != 0 {
        PERCPU.deferred.store(0, Relaxed);
        // SAFETY: an NMI stored the address of a function without arguments that
        // keeps what the calling convention says.
        let function: extern "sysv64" fn() = unsafe { core::mem::transmute(function) };
        function();
    }
}

/// Returns to 16-bit stacks read their frame at `address` from now on.
pub fn set_espfix_stack(address: u64) {
    PERCPU.espfix_stack.store(address, Relaxed);
}

/// CR3 as boot had it.
pub fn set_boot_cr3(cr3: u64) {
    PERCPU.boot_cr3.store(cr3, Relaxed);
}

/// They write it at `address` from now on.
pub fn set_espfix_waddr(address: u64) {
    PERCPU.espfix_waddr.store(address, Relaxed);
}

/// Points GS at this CPU's data. KERNEL_GS_BASE, which `swapgs` would fetch,
/// holds the user's base while the kernel runs.
pub fn init() {
    PERCPU.thread_sp.store(stacks::thread_sp(), Relaxed);
    PERCPU.entry_sp.store(stacks::trampoline_sp(), Relaxed);
    // SAFETY: nothing has used GS yet.
    unsafe { cpu::write_msr(cpu::GS_BASE, &raw const PERCPU as u64) };
    // SAFETY: as above.
    unsafe { cpu::write_msr(cpu::KERNEL_GS_BASE, layout::USER_DATA) };
}
