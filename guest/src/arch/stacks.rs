//! The kernel's stacks, whose places are in the linker script.

use crate::mm::layout::PAGE;

lab_note!("stack main low=main_stack_low high=main_stack_high user=thread_stack_high");
lab_note!("stack nmi low=nmi_stack_low high=nmi_stack_high");
lab_note!("stack df low=df_stack_low high=df_stack_high");
lab_note!("stack debug low=debug_stack_low high=debug_stack_high");
lab_note!("stack check low=check_stack_low high=check_stack_high");
lab_note!("stack entry low=entry_stack_low high=entry_stack_high user=entry_stack_high");
lab_note!("stack high low=high_stack_low high=high_stack_high");
lab_note!("scratch low=nmi_stack_low high=nmi_stack_high");
lab_note!("scratch low=high_stack_low high=high_stack_high");
lab_note!("scratch low=check_stack_low high=check_stack_high");

/// Bytes of the NMI stack: a page, below which a page is not mapped.
pub const NMI_STACK_SIZE: usize = PAGE as usize;
// Notes of schemes name T-56 and T-64 by these offsets from `nmi_stack_low`.
const _: () = assert!(NMI_STACK_SIZE - 56 == 0xfc8 && NMI_STACK_SIZE - 64 == 0xfc0);

/// Bytes at the top of the main stack for the kernel code that enters user mode.
pub const BOOT_STACK: u64 = 0x400;
/// Bytes below them for what interrupts user mode (RSP0): a frame, the registers and what a
/// body needs. While the user runs, they and the thread's stack below them hold nothing.
const ENTRY_STACK: u64 = 0x300;

unsafe extern "C" {
    static main_stack_high: u8;
    static nmi_stack_low: u8;
    static nmi_stack_high: u8;
    static thread_stack_high: u8;
    static entry_stack_high: u8;
    static df_stack_high: u8;
    static debug_stack_low: u8;
    static debug_stack_high: u8;
    static check_stack_high: u8;
}

/// The NMI stack's lowest byte and its top.
pub fn nmi_stack() -> (u64, u64) {
    (&raw const nmi_stack_low as u64, &raw const nmi_stack_high as u64)
}

/// The top of the stack of #DF.
pub fn double_fault_sp() -> u64 {
    &raw const df_stack_high as u64
}

/// The top of the small stack that both page tables of a process map (mm/split.rs).
pub fn trampoline_sp() -> u64 {
    &raw const entry_stack_high as u64
}

/// The top of the stack of #DB, in schemes that give it one.
pub fn debug_sp() -> u64 {
    &raw const debug_stack_high as u64
}

/// The top of the stack of machine checks.
pub fn check_sp() -> u64 {
    &raw const check_stack_high as u64
}

/// Whether `rsp` points into the stack of #DB.
pub fn is_debug_stack(rsp: u64) -> bool {
    &raw const debug_stack_low as u64 <= rsp && rsp < &raw const debug_stack_high as u64
}

/// Where the CPU's stack for entries from user mode begins (RSP0).
pub fn entry_sp() -> u64 {
    &raw const main_stack_high as u64 - BOOT_STACK
}

/// Where the stack begins that a system call runs on. Below it the main stack is empty while the
/// user runs.
///
/// # Panics
/// Where the linker script has it elsewhere.
pub fn thread_sp() -> u64 {
    assert!(entry_sp() - ENTRY_STACK == &raw const thread_stack_high as u64, "thread_stack_high is elsewhere");
    entry_sp() - ENTRY_STACK
}
