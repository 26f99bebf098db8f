//! User mode with FRED: the way there by ERETU; what comes back is an event, a system call
//! too, and enters where all events of ring 3 do (`entry/fred.rs`).
//!
//! Delivery and return exchange GS and load the kernel's stack or the user's in one step.
//! So there is no window where CPL0 runs on something that the user chose.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::enter::enter_user;

/// FRED delivers the events of user mode.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// User mode is FRED's.
pub fn init() {
    IN_USE.store(true, Relaxed);
}

/// Whether user mode is entered by ERETU.
pub fn in_use() -> bool {
    IN_USE.load(Relaxed)
}

enter_user! { pub(super) fn enter = "fred_user.enter", r"
    # abi::FredFrame, the last word first. The NMI bit is clear: NMIs stay as they are.
    pushq $0
    pushq $0
    pushq %r8
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rdi
    pushq $0
    jmp fred.exit_eretu
"}
