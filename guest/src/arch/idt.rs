//! The gates. Every vector that is not handled points at a HLT of its own, so
//! that any fault nobody declared is an exact stop with a name.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::gdt::{self, Pointer};
use crate::entry::{Scheme, custom};
use crate::mm::{early, layout};

// RSP → the frame as the CPU pushed it. `undeclared+N` is vector N's.
global_asm!(
    r#"
    .text
    .globl undeclared
    .type undeclared, @function
undeclared:
    .rept 256
    hlt
    .endr
    .size undeclared, . - undeclared
"#,
    options(att_syntax)
);

unsafe extern "C" {
    fn undeclared();
}

/// Vector of the NMI.
const NMI: usize = 2;
const DEBUG: usize = 1;
const BREAKPOINT: usize = 3;
const INVALID_OPCODE: usize = 6;
const DOUBLE_FAULT: usize = 8;
const SEGMENT_NOT_PRESENT: usize = 11;
const GENERAL_PROTECTION: usize = 13;
const PAGE_FAULT: usize = 14;

/// A present 64-bit interrupt gate of privilege 0.
const INTERRUPT_GATE: u64 = 0x8e;

/// Builds and loads the IDT. It lies in boot memory: nothing writes it later. Where #DB has
/// a stack of its own, there is a second table in which it has none.
pub fn init(scheme: &Scheme) {
    let table = build(scheme, scheme.debug_ist);
    if scheme.debug_ist != 0 {
        TABLES[0].store(table, Relaxed);
        TABLES[1].store(build(scheme, 0), Relaxed);
    }
    load(table);
}

/// The two tables: #DB on its own stack, and on the interrupted one; 0: no such scheme.
static TABLES: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// From now on #DB comes on the interrupted stack, or on its own again.
///
/// # Safety
/// The scheme's #DB has a stack of its own.
#[inline(always)]
pub unsafe fn debug_on_current_stack(yes: bool) {
    load(TABLES[usize::from(yes)].load(Relaxed));
}

fn build(scheme: &Scheme, debug_ist: u8) -> u64 {
    let page = layout::direct(early::page());
    let faults = &scheme.faults;
    for vector in 0..256 {
        let stub = undeclared as *const () as u64 + vector as u64;
        let (target, ist) = match vector {
            // In mode pv the CPU never delivers an NMI: the hypervisor calls.
            NMI if scheme.pv.is_none() => (scheme.entry as *const () as u64, scheme.ist),
            DEBUG => (faults.debug as *const () as u64, debug_ist),
            BREAKPOINT => (faults.breakpoint as *const () as u64, 0),
            INVALID_OPCODE => (faults.invalid_opcode as *const () as u64, 0),
            DOUBLE_FAULT => (stub, gdt::IST_DOUBLE_FAULT),
            SEGMENT_NOT_PRESENT => (faults.segment_not_present as *const () as u64, 0),
            GENERAL_PROTECTION => (scheme.general_protection.map_or(stub, |f| f as *const () as u64), 0),
            PAGE_FAULT => (faults.page_fault as *const () as u64, 0),
            _ => (stub, 0),
        };
        let target = custom::handler(scheme, vector).unwrap_or(target);
        let low = target & 0xffff
            | u64::from(gdt::KERNEL_CS) << 16
            | u64::from(ist) << 32
            | INTERRUPT_GATE << 40
            | (target >> 16 & 0xffff) << 48;
        for (offset, half) in [(0, low), (8, target >> 32)] {
            // SAFETY: 256 gates of 16 bytes fill the fresh page.
            unsafe { ((page + 16 * vector as u64 + offset) as *mut u64).write(half) };
        }
    }
    page
}

#[inline(always)]
fn load(table: u64) {
    let idt = Pointer::new(table, 4096);
    // SAFETY: `build` made it: the table is complete, and every gate's target is kernel code.
    unsafe { asm!("lidt [{}]", in(reg) &idt, options(nostack, preserves_flags)) };
}
