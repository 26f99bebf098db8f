//! Segments, and the stacks that the CPU switches to by itself.
//!
//! The TSS lies in boot memory: nothing writes it after *ready*. The GDT is memory that a
//! run may write, since one user segment comes and goes; the CPU writes neither
//! (Accessed and Busy bits are set from the start).

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::mm::{early, layout};

/// Kernel code.
pub const KERNEL_CS: u16 = 0x08;
/// Kernel data and stack.
pub const KERNEL_DS: u16 = 0x10;
/// User data and stack, as the CPU shows it.
pub const USER_DS: u16 = 0x1b;
/// User code, as the CPU shows it.
pub const USER_CS: u16 = 0x23;
const TSS_SELECTOR: u16 = 0x28;
/// User code in a segment that may be taken away, as the CPU shows it.
pub const GOING_CS: u16 = 0x3b;

const LDT_SELECTOR: u16 = 0x40;
/// A user's 16-bit stack in the process's LDT, as the CPU shows it.
pub const LDT_SS_16: u16 = 0x07;
/// A user's 32-bit code there.
pub const LDT_CS_32: u16 = 0x0f;

/// Bytes at the top of the main stack for the kernel code that enters user mode.
pub const BOOT_STACK: u64 = 0x400;
/// Bytes below for what interrupts user mode (RSP0). While the user runs, they and the
/// thread's stack below them hold nothing.
const ENTRY_STACK: u64 = 0x300;

/// Stack of NMIs, as a number for gates.
pub const IST_NMI: u8 = 1;
/// Stack of double faults, as a number for gates.
pub const IST_DOUBLE_FAULT: u8 = 2;
/// Stack of #DB in schemes that give it one, as a number for gates.
pub const IST_DEBUG: u8 = 3;

/// Bytes of the NMI stack (as in the linker script).
pub const NMI_STACK_SIZE: usize = 4096;

// The segment comes and goes, as a body or a fault will.
lab_note!("scratch low=GDT+0x38 high=GDT+0x40");
lab_note!("stack nmi low=nmi_stack_low high=nmi_stack_high");
lab_note!("stack df low=df_stack_low high=df_stack_high");
lab_note!("stack debug low=debug_stack_low high=debug_stack_high");
lab_note!("scratch low=nmi_stack_low high=nmi_stack_high");

const TSS_BYTES: u64 = 104;
/// Present, 64-bit TSS, busy: `ltr` wants it available, and sets busy itself.
const TSS_AVAILABLE: u64 = 0x89;

/// Present, LDT.
const LDT_PRESENT: u64 = 0x82;

/// Null, kernel code, kernel data, user data, user code: SYSRET wants the user's
/// two in this order. All are present and accessed; code is 64-bit.
const FLAT: [u64; 5] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];

/// The process's LDT: a 16-bit stack whose base is the user's page of data, and 32-bit
/// code. In memory of its own, which nothing writes after *ready*.
const LOCAL: [u64; 2] = [
    0x0000_f300_0000_ffff | (layout::USER_DATA & 0xff_ffff) << 16 | (layout::USER_DATA >> 24 & 0xff) << 56,
    0x00cf_fb00_0000_ffff,
];

const ENTRIES: usize = 10;
#[unsafe(no_mangle)]
static GDT: [AtomicU64; ENTRIES] = [const { AtomicU64::new(0) }; ENTRIES];
/// Bit 47 of a descriptor: the segment is present.
const SEGMENT_PRESENT: u64 = 1 << 47;

/// The #NP handler has brought it back at least once: no counter, so that states repeat.
#[unsafe(no_mangle)]
static SEGMENT_BROUGHT: AtomicBool = AtomicBool::new(false);

/// Takes the segment of [`GOING_CS`] away: who loads it next gets a #NP, whose handler
/// brings it back.
#[inline(always)]
pub fn remove_segment() {
    GDT[usize::from(GOING_CS / 8)].fetch_and(!SEGMENT_PRESENT, Relaxed);
}

/// Whether it was ever brought back.
pub fn was_brought_back() -> bool {
    SEGMENT_BROUGHT.load(Relaxed)
}

unsafe extern "C" {
    static main_stack_high: u8;
    static nmi_stack_low: u8;
    static nmi_stack_high: u8;
    static df_stack_high: u8;
    static debug_stack_low: u8;
    static debug_stack_high: u8;
}

/// Address and bytes of the table.
pub fn table() -> (u64, usize) {
    (&raw const GDT as u64, size_of_val(&GDT))
}

/// The NMI stack's lowest byte and its top.
pub fn nmi_stack() -> (u64, u64) {
    (&raw const nmi_stack_low as u64, &raw const nmi_stack_high as u64)
}

/// Whether `rsp` points into the stack of [`IST_DEBUG`].
pub fn is_debug_stack(rsp: u64) -> bool {
    &raw const debug_stack_low as u64 <= rsp && rsp < &raw const debug_stack_high as u64
}

/// Where the CPU's stack for entries from user mode begins (RSP0).
pub fn entry_sp() -> u64 {
    &raw const main_stack_high as u64 - BOOT_STACK
}

/// Where the stack begins that a system call runs on.
pub fn thread_sp() -> u64 {
    entry_sp() - ENTRY_STACK
}

/// The operand of `lgdt` and `lidt`.
#[repr(C, packed)]
pub struct Pointer {
    limit: u16,
    base: u64,
}

impl Pointer {
    /// A table of `bytes` bytes at `base`.
    pub fn new(base: u64, bytes: usize) -> Self {
        Self { limit: (bytes - 1) as u16, base }
    }
}

/// Builds and loads GDT and TSS.
pub fn init() {
    let nmi_stack = &raw const nmi_stack_high as usize - &raw const nmi_stack_low as usize;
    assert!(nmi_stack == NMI_STACK_SIZE);
    let page = layout::direct(early::page());
    let tss = page;
    let stack = |offset: u64, top: u64| {
        // SAFETY: within the fresh page; TSS fields are only 4-byte aligned.
        unsafe { ((tss + offset) as *mut u64).write_unaligned(top) };
    };
    stack(4, entry_sp()); // RSP0
    stack(0x24, &raw const nmi_stack_high as u64); // IST1
    stack(0x2c, &raw const df_stack_high as u64); // IST2
    stack(0x34, &raw const debug_stack_high as u64); // IST3
    // SAFETY: within the fresh page. No I/O bitmap: its offset is the size.
    unsafe { ((tss + 0x66) as *mut u16).write(TSS_BYTES as u16) };

    let limit = TSS_BYTES - 1;
    let base = (tss & 0xff_ffff) << 16 | (tss >> 24 & 0xff) << 56;
    let set = |index: usize, descriptor: u64| GDT[index].store(descriptor, Relaxed);
    for (i, &descriptor) in FLAT.iter().enumerate() {
        set(i, descriptor);
    }
    set(5, limit | base | TSS_AVAILABLE << 40);
    set(6, tss >> 32);
    set(usize::from(GOING_CS / 8), FLAT[usize::from(USER_CS / 8)]);
    let ldt = layout::direct(early::page());
    for (i, &descriptor) in (0..).zip(LOCAL.iter()) {
        // SAFETY: within the fresh page.
        unsafe { ((ldt + 8 * i) as *mut u64).write(descriptor) };
    }
    let limit = size_of_val(&LOCAL) as u64 - 1;
    set(8, limit | (ldt & 0xff_ffff) << 16 | LDT_PRESENT << 40 | (ldt >> 24 & 0xff) << 56);
    set(9, ldt >> 32);
    load(&Pointer::new(&raw const GDT as u64, size_of_val(&GDT)));
}

fn load(gdt: &Pointer) {
    // SAFETY: the new table holds what each selector loaded here names, the code
    // segment is like the current one, TSS and LDT are complete.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "push {cs}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "mov {tmp:e}, {ds}",
            "mov ds, {tmp:e}",
            "mov es, {tmp:e}",
            "mov ss, {tmp:e}",
            "xor {tmp:e}, {tmp:e}",
            "mov fs, {tmp:e}",
            "mov gs, {tmp:e}",
            "mov {tmp:e}, {tss}",
            "ltr {tmp:x}",
            "mov {tmp:e}, {ldt}",
            "lldt {tmp:x}",
            gdt = in(reg) gdt,
            tmp = out(reg) _,
            cs = const KERNEL_CS,
            ds = const KERNEL_DS,
            tss = const TSS_SELECTOR,
            ldt = const LDT_SELECTOR,
        );
    }
}
