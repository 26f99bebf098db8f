//! #DB with a stack of its own, as Linux had it from 3.3 to 5.7, and its bugs.
//!
//! An IST begins at its top each time. So a #DB in the body of an NMI that interrupted the
//! #DB handler would overwrite the frame that handler is to return by. Linux's remedy
//! (228bdaa95fb8): an NMI that finds itself on the debug stack loads an IDT in which #DB
//! has no IST, keeps a flag, and undoes it at its end.
//!
//! - `bug-debug-ist`: before that. The interrupted #DB's frame is lost.
//! - `bug-debug-undo`: the flag is never cleared (c0525a6972d3), so that from then on every
//!   NMI undoes what it has not done.
//! - `twin-debug-stack`: the flag is cleared.
//!
//! The rest is `twin-rostedt`. What of this Linux wrote in C is Rust here.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use guest::abi;

use crate::arch::{gdt, idt, stacks};
use crate::entry::{Scheme, nmi_body};

lab_note!(
    "scheme bug-debug-ist mode=native arg=SCHEME_BUG_DEBUG_IST entry=bug_debug_ist.entry "
    "prefix=bug_debug_ist. repeat=bug_debug_ist.repeat idle=nmi_stack_low+0xfc8:8 "
    "gallery=228bdaa95fb8 summary=\"#DB has an IST, and may come again inside it\""
);
lab_note!(
    "scheme bug-debug-undo mode=native arg=SCHEME_BUG_DEBUG_UNDO entry=bug_debug_undo.entry "
    "prefix=bug_debug_undo. repeat=bug_debug_undo.repeat idle=nmi_stack_low+0xfc8:8,UPDATE_DEBUG_STACK:8 "
    "gallery=c0525a6972d3 summary=\"the debug stack's undo flag is never cleared\""
);
lab_note!(
    "scheme twin-debug-stack mode=native arg=SCHEME_TWIN_DEBUG_STACK entry=twin_debug_stack.entry "
    "prefix=twin_debug_stack. repeat=twin_debug_stack.repeat idle=nmi_stack_low+0xfc8:8,UPDATE_DEBUG_STACK:8 "
    "gallery=repaired summary=\"#DB has an IST, which an NMI that interrupts it takes away\""
);
// Frames of #DBs that are over.
lab_note!("scratch low=debug_stack_low high=debug_stack_high scheme=bug-debug-ist");
lab_note!("scratch low=debug_stack_low high=debug_stack_high scheme=bug-debug-undo");
lab_note!("scratch low=debug_stack_low high=debug_stack_high scheme=twin-debug-stack");
lab_note!("scratch low=UPDATE_DEBUG_STACK high=UPDATE_DEBUG_STACK+0x8 scheme=bug-debug-undo");
lab_note!("scratch low=UPDATE_DEBUG_STACK high=UPDATE_DEBUG_STACK+0x8 scheme=twin-debug-stack");

scheme!(SCHEME_BUG_DEBUG_IST = Scheme { debug_ist: gdt::IST_DEBUG, ..Scheme::native(bug_debug_ist) });
scheme!(SCHEME_BUG_DEBUG_UNDO = Scheme { debug_ist: gdt::IST_DEBUG, ..Scheme::native(bug_debug_undo) });
scheme!(SCHEME_TWIN_DEBUG_STACK = Scheme { debug_ist: gdt::IST_DEBUG, ..Scheme::native(twin_debug_stack) });

unsafe extern "C" {
    #[link_name = "bug_debug_ist.entry"]
    fn bug_debug_ist();
    #[link_name = "bug_debug_undo.entry"]
    fn bug_debug_undo();
    #[link_name = "twin_debug_stack.entry"]
    fn twin_debug_stack();
}

/// The live NMI has taken #DB's stack away, and is to give it back.
#[unsafe(no_mangle)]
static UPDATE_DEBUG_STACK: AtomicU64 = AtomicU64::new(0);

#[unsafe(no_mangle)]
extern "sysv64" fn bug_debug_undo_body(regs: *const abi::Regs) {
    do_nmi::<false>(regs);
}

#[unsafe(no_mangle)]
extern "sysv64" fn twin_debug_stack_body(regs: *const abi::Regs) {
    do_nmi::<true>(regs);
}

/// Linux's `do_nmi` of then.
#[inline(always)]
fn do_nmi<const CLEARS: bool>(regs: *const abi::Regs) {
    // SAFETY: the entry passes what it has saved.
    if stacks::is_debug_stack(unsafe { (*regs).frame.rsp }) {
        // SAFETY: these schemes' #DB has an IST.
        unsafe { idt::debug_on_current_stack(true) };
        UPDATE_DEBUG_STACK.store(1, Relaxed);
    }
    nmi_body(regs);
    if UPDATE_DEBUG_STACK.load(Relaxed) != 0 {
        // SAFETY: as above.
        unsafe { idt::debug_on_current_stack(false) };
        if CLEARS {
            UPDATE_DEBUG_STACK.store(0, Relaxed);
        }
    }
}
