//! Context switches of a kernel that maps the GDT in each address space at another place,
//! as Xen did for its domains: a switch loads CR3, and then GDTR with the new place.
//!
//! In between, the old place is gone. Whatever the CPU delivers there wants CS from a
//! GDT that is not mapped: #PF, #DF, triple fault. So GDTR first gets a place that
//! every address space has.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::gdt::{self, Pointer};
use crate::mm::layout::{self, PAGE, page_of};
use crate::mm::{process, table};

/// The switch leaves GDTR alone until CR3 is loaded.
static UNPROTECTED: AtomicBool = AtomicBool::new(false);

/// From now on switches are as they were before Xen 27a9d6d6143f.
pub fn leave_window() {
    UNPROTECTED.store(true, Relaxed);
}

/// Where process `number` sees the GDT.
pub fn place(number: usize) -> u64 {
    layout::GDT_WINDOWS + number as u64 * layout::SLOT + layout::offset_in_page(gdt::table().0)
}

/// Maps the places of the first two processes in the reference. Only at boot.
pub fn map() {
    let (address, bytes) = gdt::table();
    assert!(layout::offset_in_page(address) + bytes as u64 <= PAGE, "the GDT lies in two pages");
    let page = page_of(layout::physical(address));
    for number in [process::FIRST, process::FIRST + 1] {
        table::map(process::reference(), page_of(place(number)), page, table::Access::Read);
    }
}

/// Goes on in the address space of process `number`, with the GDT where that has it.
#[inline(never)]
pub fn switch(number: usize) {
    unsafe extern "sysv64" {
        #[link_name = "gdt_switch.to"]
        fn to(root: u64, new: &Pointer, everywhere: &Pointer);
        #[link_name = "gdt_switch.unprotected"]
        fn unprotected(root: u64, new: &Pointer, everywhere: &Pointer);
    }
    let (address, bytes) = gdt::table();
    let (new, everywhere) = (Pointer::new(place(number), bytes), Pointer::new(address, bytes));
    let to = if UNPROTECTED.load(Relaxed) { unprotected } else { to };
    // SAFETY: every root has the kernel's slots, this one the GDT at `place`; it is the
    // same table.
    unsafe { to(process::root(number), &new, &everywhere) };
}

/// Puts GDTR back to where every address space has the table.
pub fn leave() {
    let (address, bytes) = gdt::table();
    // SAFETY: it is the same table.
    unsafe { core::arch::asm!("lgdt [{}]", in(reg) &Pointer::new(address, bytes), options(nostack, preserves_flags)) };
}

global_asm!(
    r#"
    .section .text.work, "ax", @progbits

# rdi: the new root. rsi, rdx → operands of lgdt: the new place, and one that all have.
    .globl gdt_switch.to
    .type gdt_switch.to, @function
gdt_switch.to:
    lgdt (%rdx)
    movq %rdi, %cr3
    lgdt (%rsi)
    ret
    .size gdt_switch.to, . - gdt_switch.to

    .globl gdt_switch.unprotected
    .type gdt_switch.unprotected, @function
gdt_switch.unprotected:
    movq %rdi, %cr3
    # GDTR names a place that this address space does not have.
gdt_switch.window:
    lgdt (%rsi)
    ret
    .size gdt_switch.unprotected, . - gdt_switch.unprotected
    .text
"#,
    options(att_syntax)
);
