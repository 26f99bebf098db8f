//! The page fault that is not an error: this root lacks a top-level entry that the
//! reference has.

use core::sync::atomic::Ordering::Relaxed;

use super::layout::{self, PRESENT, VMALLOC_SLOT, VMALLOC_SLOTS};
use super::process;
use super::table::{self, Table};
use crate::arch::cpu;

/// Error code bit: the page was present, so nothing is missing.
const PROTECTION: u64 = 1;

/// Copies the entry for `address` from the reference into the current root;
/// whether the access may be tried again. Touches no other memory, takes no lock:
/// an NMI's body may fault anywhere.
#[unsafe(no_mangle)]
extern "sysv64" fn sync_kernel_entry(address: u64, error: u64) -> bool {
    let slot = layout::slot(address);
    if error & PROTECTION != 0 || slot.wrapping_sub(VMALLOC_SLOT) >= VMALLOC_SLOTS {
        return false;
    }
    let entry = process::reference().entry(slot).load(Relaxed);
    if entry & PRESENT == 0 {
        return false;
    }
    // SAFETY: CR3 holds a process's root (its low bits are zero here), which
    // the direct map reaches.
    let root = unsafe { Table::at(layout::direct(cpu::root())) };
    if root.entry(slot).load(Relaxed) == entry {
        // Another fault on this root was faster: an NMI came between this one
        // and its handler. Or it is a lower level that is missing.
        return table::is_mapped(root, address);
    }
    root.entry(slot).store(entry, Relaxed);
    true
}
