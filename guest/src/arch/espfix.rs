//! Returns to a 16-bit stack.
//!
//! Where the stack segment is a 16-bit one, an iret from kernel code to 32-bit code gives
//! back bits 15:0 of RSP only. Bits 31:16 stay what they were in the kernel's RSP: the
//! user's are lost, and the kernel's are shown to it. Such segments come from an LDT, as
//! a user asks for them.
//!
//! The cure (Linux's espfix64, 3.16 on): the iret reads its frame from a small stack whose
//! address has the user's bits 31:16. One page is mapped 65536 times, read-only, at all
//! addresses with the upper half of [`layout::ESPFIX`] and the page's own bits 15:0. The
//! frame is written to the page elsewhere, RSP is set to the alias that fits, and then comes
//! the iret.
//!
//! The return has two windows in which RSP is not where entry code may expect it: while the
//! frame is read from the old stack, and on the small stack. Bits 63:32 are not given back
//! by anything: they stay the small stack's, which 32-bit code cannot see.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{gdt, percpu};
use crate::mm::{layout, process, table};

lab_note!("alias low=espfix_low high=espfix_high");
// What the last return has left there is of no use to anybody.
lab_note!("scratch low=ESPFIX_MEMORY high=ESPFIX_MEMORY+0x30");

/// RAX, RIP, CS, RFLAGS, RSP, SS, and two words that are not used: a page has it whole.
#[repr(C, align(64))]
struct SmallStack([AtomicU64; 8]);

/// Which of them is SS.
const SS: usize = 5;
const _: () = assert!((SS + 1) * size_of::<u64>() == 0x30, "the note above says so");

#[unsafe(no_mangle)]
static ESPFIX_MEMORY: SmallStack = SmallStack([const { AtomicU64::new(0) }; 8]);

/// Maps the small stack's page at all its addresses, in the reference. Only at boot.
pub fn map() {
    let page = layout::page_of(layout::physical(written()));
    table::map_at_every_64k(process::reference(), layout::ESPFIX, page);
}

/// Says where the small stack is. At boot, after the CPU's data is there.
pub fn init() {
    percpu::set_espfix_waddr(written());
    percpu::set_espfix_stack(read_at());
}

/// Where the frame is written.
fn written() -> u64 {
    &raw const ESPFIX_MEMORY as u64
}

/// Where it is read, with bits 31:16 clear.
pub fn read_at() -> u64 {
    layout::ESPFIX + layout::offset_in_page(written())
}

/// Whether a user's 16-bit stack was ever returned to by this way.
pub fn was_used() -> bool {
    ESPFIX_MEMORY.0[SS].load(Relaxed) == u64::from(gdt::LDT_SS_16)
}

global_asm!(
    r#"
# The addresses at which the small stack is seen.
    .globl espfix_low, espfix_high
    .set espfix_low, {low}
    .set espfix_high, {high}

    .section .text.entry, "ax", @progbits

# RSP → a user's frame whose SS is of the LDT; GS and all registers are the user's. May be
# jumped to on any stack that has two words of room below the frame.
    .globl espfix.return
espfix.return:
    pushq %rax
    pushq %rdi
espfix.enter_gs:
    swapgs
    movq %gs:{waddr}, %rdi
    movq %rax, (%rdi)

# RSP → rdi, rax, frame; GS is the kernel's; rdi → where the copy goes. From here to
# `espfix.switch` the frame must stay what it is: it is read word by word.
espfix.copy_rip:
    movq 16(%rsp), %rax
    movq %rax, 8(%rdi)
espfix.copy_cs:
    movq 24(%rsp), %rax
    movq %rax, 16(%rdi)
espfix.copy_rflags:
    movq 32(%rsp), %rax
    movq %rax, 24(%rdi)
espfix.copy_ss:
    movq 48(%rsp), %rax
    movq %rax, 40(%rdi)
espfix.copy_rsp:
    movq 40(%rsp), %rax
    movq %rax, 32(%rdi)
    # rax = the user's RSP. Its bits 31:16, the rest from the small stack.
    andl $0xffff0000, %eax
    popq %rdi
    orq %gs:{stack}, %rax
espfix.leave_gs:
    swapgs

# rax → the small stack, which cannot be pushed to: an exception here must have a stack of
# its own.
espfix.switch:
    movq %rax, %rsp
    popq %rax
espfix.iretq:
    iretq
    .text
"#,
    low = const layout::ESPFIX,
    high = const layout::ESPFIX + layout::ESPFIX_BYTES,
    waddr = const percpu::ESPFIX_WADDR,
    stack = const percpu::ESPFIX_STACK,
    options(att_syntax)
);
