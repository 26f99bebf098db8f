//! The gates. Every vector that is not handled leads to a HLT of its own, so
//! that a fault which is not declared is an exact stop with a name.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::gdt::{self, Pointer};
use super::{descriptor, vector};
use crate::mm::{early, layout};

// RSP → the frame as the CPU pushed it. `undeclared+N` is vector N's.
global_asm!(
    r#"
    .text
    .globl undeclared
    .type undeclared, @function
undeclared:
    .rept {vectors}
    hlt
    .endr
    .size undeclared, . - undeclared
"#,
    vectors = const vector::COUNT,
    options(att_syntax)
);

unsafe extern "C" {
    fn undeclared();
}

/// Where a vector leads.
#[derive(Clone, Copy, Default)]
pub struct Gate {
    /// The handler's first instruction; `None`: a HLT of the vector's own.
    pub target: Option<u64>,
    /// The number of the stack in the TSS; 0: the interrupted one.
    pub ist: u8,
}

/// The two tables: #DB on its own stack, and on the interrupted one. 0: the scheme's #DB has
/// no stack of its own.
static TABLES: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Builds and loads the IDT, with the gates that `gate` names by vector. It lies in boot
/// memory: nothing writes it later. Where #DB has a stack of its own, there is a second
/// table in which it has none.
pub fn init(gate: impl Fn(u8) -> Gate) {
    let table = build(&gate);
    if gate(vector::DEBUG).ist != 0 {
        TABLES[0].store(table, Relaxed);
        let without = build(|v| if v == vector::DEBUG { Gate { ist: 0, ..gate(v) } } else { gate(v) });
        TABLES[1].store(without, Relaxed);
    }
    load(table);
}

/// From now on #DB comes on the interrupted stack, or on its own again.
///
/// # Safety
/// The scheme's #DB has a stack of its own.
#[inline(always)]
pub unsafe fn debug_on_current_stack(yes: bool) {
    load(TABLES[usize::from(yes)].load(Relaxed));
}

/// A table in a page of its own. Its address in the direct map.
fn build(gate: impl Fn(u8) -> Gate) -> u64 {
    let page = layout::direct(early::page());
    for vector in 0..=u8::MAX {
        let Gate { target, ist } = gate(vector);
        let target = target.unwrap_or(undeclared as *const () as u64 + u64::from(vector));
        let words = descriptor::interrupt_gate(target, gdt::KERNEL_CS, ist);
        // SAFETY: 256 gates of 16 bytes fill the fresh page.
        unsafe { (page as *mut [u64; 2]).wrapping_add(vector.into()).write(words) };
    }
    page
}

#[inline(always)]
fn load(table: u64) {
    let idt = Pointer::new(table, vector::COUNT * size_of::<[u64; 2]>());
    // SAFETY: `build` made it: the table is complete, and every gate's target is kernel code.
    unsafe { asm!("lidt [{}]", in(reg) &idt, options(nostack, preserves_flags)) };
}
