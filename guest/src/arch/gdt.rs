//! Segments, and the stacks that the CPU switches to by itself.
//!
//! The TSS lies in boot memory: nothing writes it after *ready*. The GDT is memory that a
//! run may write, since one user segment comes and goes; the CPU writes neither
//! (Accessed and Busy bits are set from the start).

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::descriptor::{self, IN_LDT, RING3, System, selector};
use super::stacks;
use crate::mm::{early, layout};

// Descriptors of the GDT. SYSRET wants the user's two in this order, data first.
const KERNEL_CODE: usize = 1;
const KERNEL_DATA: usize = 2;
const USER_DATA: usize = 3;
const USER_CODE: usize = 4;
/// Two entries, as all system descriptors.
const TSS: usize = 5;
const GOING: usize = 7;
const LDT: usize = 8;
const ENTRIES: usize = 10;

// Descriptors of the process's LDT.
const LOCAL_STACK_16: usize = 0;
const LOCAL_CODE_32: usize = 1;
const LOCAL_ENTRIES: usize = 2;

/// Kernel code.
pub const KERNEL_CS: u16 = selector(KERNEL_CODE, 0);
/// Kernel data and stack.
pub const KERNEL_DS: u16 = selector(KERNEL_DATA, 0);
/// User data and stack.
pub const USER_DS: u16 = selector(USER_DATA, RING3);
/// User code.
pub const USER_CS: u16 = selector(USER_CODE, RING3);
/// User code in a segment that may be taken away.
pub const GOING_CS: u16 = selector(GOING, RING3);
/// The error code of the #NP that it then raises: the selector without its privilege.
pub const GOING_ERROR: u16 = selector(GOING, 0);
/// The byte of the GDT that has its Present bit.
pub const GOING_ACCESS: usize = GOING * size_of::<u64>() + descriptor::ACCESS_BYTE;

/// A user's 16-bit stack in the process's LDT.
pub const LDT_SS_16: u16 = selector(LOCAL_STACK_16, IN_LDT | RING3);
/// A user's 32-bit code there.
pub const LDT_CS_32: u16 = selector(LOCAL_CODE_32, IN_LDT | RING3);

/// The IST entry of NMIs, as a number for gates: 1 to 7; 0 is the interrupted stack.
pub const IST_NMI: u8 = 1;
/// The IST entry of double faults.
pub const IST_DOUBLE_FAULT: u8 = 2;
/// The IST entry of #DB, in schemes that give it one.
pub const IST_DEBUG: u8 = 3;
/// The IST entry of machine checks.
pub const IST_CHECK: u8 = 4;

// The segment comes and goes, as a body or a fault will.
lab_note!("scratch low=GDT+0x38 high=GDT+0x40");
const _: () = assert!(GOING * size_of::<u64>() == 0x38, "the note above says so");

/// The 64-bit TSS (SDM vol. 3, 7.7).
#[repr(C, packed(4))]
struct Tss {
    reserved_0: u32,
    /// Stacks for entries to rings 0 to 2.
    rsp: [u64; 3],
    reserved_1: u64,
    /// IST 1 to 7.
    ist: [u64; 7],
    reserved_2: [u16; 5],
    /// Where the I/O permissions begin.
    io_map: u16,
}

const _: () = assert!(size_of::<Tss>() == 104 && offset_of!(Tss, io_map) == 0x66);

#[unsafe(no_mangle)]
static GDT: [AtomicU64; ENTRIES] = [const { AtomicU64::new(0) }; ENTRIES];

/// The #NP handler has brought the segment of [`GOING_CS`] back at least once: a flag and not
/// a counter, so that states repeat.
#[unsafe(no_mangle)]
static SEGMENT_BROUGHT: AtomicBool = AtomicBool::new(false);

/// Takes the segment of [`GOING_CS`] away: the next load of it raises #NP, whose handler
/// brings it back.
#[inline(always)]
pub fn remove_segment() {
    GDT[GOING].fetch_and(!descriptor::PRESENT, Relaxed);
}

/// Whether it was ever brought back.
pub fn was_brought_back() -> bool {
    SEGMENT_BROUGHT.load(Relaxed)
}

/// Address and bytes of the table.
pub fn table() -> (u64, usize) {
    (&raw const GDT as u64, size_of_val(&GDT))
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

/// Builds and loads GDT, TSS and LDT. What interrupts user code begins on the stack at `entry_sp`.
pub fn init(entry_sp: u64) {
    let (low, high) = stacks::nmi_stack();
    assert!(high - low == stacks::NMI_STACK_SIZE as u64, "the linker script has an NMI stack of another size");
    // Field by field: a whole structure would be copied by SSE registers.
    let tss = layout::direct(early::page());
    let stack = |at: usize, top: u64| {
        // SAFETY: within the fresh page; the TSS's fields are only 4-byte aligned.
        unsafe { (tss as *mut u64).wrapping_byte_add(at).write_unaligned(top) };
    };
    let ist = |number: u8| offset_of!(Tss, ist) + (usize::from(number) - 1) * size_of::<u64>();
    stack(offset_of!(Tss, rsp), entry_sp);
    stack(ist(IST_NMI), high);
    stack(ist(IST_DOUBLE_FAULT), stacks::double_fault_sp());
    stack(ist(IST_DEBUG), stacks::debug_sp());
    stack(ist(IST_CHECK), stacks::check_sp());
    // SAFETY: within the fresh page. The size: there are no I/O permissions.
    unsafe { (tss as *mut u16).wrapping_byte_add(offset_of!(Tss, io_map)).write(size_of::<Tss>() as u16) };

    // In memory of its own, which nothing writes after *ready*.
    let ldt = layout::direct(early::page());
    for (index, descriptor) in
        [(LOCAL_STACK_16, descriptor::user_stack_16(layout::USER_DATA)), (LOCAL_CODE_32, descriptor::USER_CODE_32)]
    {
        // SAFETY: within the fresh page.
        unsafe { (ldt as *mut u64).wrapping_add(index).write(descriptor) };
    }

    let [tss_low, tss_high] = descriptor::system(System::AvailableTss, tss, size_of::<Tss>() as u64);
    let [ldt_low, ldt_high] = descriptor::system(System::Ldt, ldt, (LOCAL_ENTRIES * size_of::<u64>()) as u64);
    for (index, descriptor) in [
        (KERNEL_CODE, descriptor::KERNEL_CODE),
        (KERNEL_DATA, descriptor::KERNEL_DATA),
        (USER_DATA, descriptor::USER_DATA),
        (USER_CODE, descriptor::USER_CODE),
        (TSS, tss_low),
        (TSS + 1, tss_high),
        (GOING, descriptor::USER_CODE),
        (LDT, ldt_low),
        (LDT + 1, ldt_high),
    ] {
        GDT[index].store(descriptor, Relaxed);
    }
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
            tss = const selector(TSS, 0),
            ldt = const selector(LDT, 0),
        );
    }
}
