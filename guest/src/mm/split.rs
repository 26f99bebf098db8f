//! Page tables apart for user code, as with Linux's KPTI: each process has two.
//!
//! The kernel's table maps all, the user's only the user's memory and what entry code needs until
//! it has loaded the kernel's: code and constants, descriptor tables, this CPU's data, the stack
//! that interrupts of user code begin on, and the IST stacks. So user code cannot guess at the rest,
//! and the kernel cannot use it before it has loaded its own table: the main stack, page tables, the
//! direct map, vmalloc.
//!
//! Their physical addresses differ in one bit, as in Linux (there a page's, here one that the image
//! has not): entry code sets and clears it in CR3.

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use super::layout::{self, PAGE};
use super::table::{self, Access, Table};
use super::{early, process, reference};

/// The bit of CR3 that says that the table is a user's.
pub const USER_TABLE: u64 = 2 << 20;

unsafe extern "C" {
    static image_start: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static shared_start: u8;
    static data_end: u8;
    static nmi_stack_low: u8;
    static nmi_stack_high: u8;
}

/// Builds the user's tables of both processes. `boot` are the physical pages of descriptor tables,
/// which the CPU reaches by the direct map. At boot.
pub fn build(boot: Range<u64>) {
    let numbers = [process::FIRST, process::FIRST + 1];
    let [first, second] = numbers.map(|number| {
        let root = process::root(number);
        assert!(root & USER_TABLE == 0 && early::next() < USER_TABLE, "boot's memory reaches the user's tables");
        // SAFETY: nobody else has that page, which the VMM gave as zeros.
        unsafe { Table::at(layout::direct(root | USER_TABLE)) }
    });
    let image = |from: *const u8, to: *const u8, access| {
        reference::map_image(first, from as u64..to as u64, access);
    };
    image(&raw const image_start, &raw const rodata_start, Access::Execute);
    image(&raw const rodata_start, &raw const rodata_end, Access::Read);
    image(&raw const shared_start, &raw const data_end, Access::Write);
    image(&raw const nmi_stack_low, &raw const nmi_stack_high, Access::Write);
    for page in boot.step_by(PAGE as usize) {
        table::map(first, layout::direct(page), page, Access::Read);
    }
    let user = layout::slot(layout::USER_TEXT);
    first.entry(user).store(process::reference().entry(user).load(Relaxed), Relaxed);
    for slot in 0..layout::ENTRIES {
        second.entry(slot).store(first.entry(slot).load(Relaxed), Relaxed);
    }
}
