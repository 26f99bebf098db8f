//! Hypercalls to the VMM: `out` to a port of the contract; those of mode `pv` go through a
//! page of stubs, as Xen's do.

use core::arch::{asm, global_asm};

use guest::abi;

use crate::mm::layout::PAGE;

lab_note!("hypercalls page=hypercall_page");

/// Stubs of the hypercall page, one for each number (Xen's ABI).
const STUBS: usize = 128;
/// Bytes of each.
const STUB_BYTES: usize = 32;
// Notes of schemes have it as a number.
const _: () = assert!(abi::HYPERCALL_STUB_CALL == 0x5);

// The hypercall page. The stubs ask by port I/O; a VMM with another way to carry
// hypercalls writes its own over them before the kernel's first instruction.
//
// Each: all registers but RAX as the hypercall wants them, RAX is clobbered; comes
// back with the result in RAX. That of HYPERVISOR_iret is jumped to, with RSP →
// iret_context, and does not come back.
global_asm!(
    r#"
    .section .text.hypercall_page, "ax", @progbits
    .balign {page}
    .globl hypercall_page, HYPERVISOR_iret
    .type hypercall_page, @function
    .type HYPERVISOR_iret, @function
hypercall_page:
    .set .Lnumber, 0
    .rept {stubs}
    movl $.Lnumber, %eax
    outl %eax, ${port_pv}
    ret
    # The rest of the stub: ud2.
    .fill 12, 2, 0x0b0f
    .set .Lnumber, .Lnumber + 1
    .endr
    .set HYPERVISOR_iret, hypercall_page + {iret} * {stub_bytes}
    .text
"#,
    port_pv = const abi::PORT_PV,
    iret = const abi::HYPERCALL_IRET,
    page = const PAGE,
    stubs = const STUBS,
    stub_bytes = const STUB_BYTES,
    options(att_syntax)
);

/// `out %eax, $PORT` with two arguments; RAX says nothing.
#[inline(always)]
fn call<const PORT: u8>(rdi: u64, rsi: u64) {
    // SAFETY: port I/O is answered by the VMM, which reads what the contract
    // says and changes no register or memory.
    unsafe {
        asm!("out {}, eax", const PORT, in("rdi") rdi, in("rsi") rsi, options(nostack, preserves_flags));
    }
}

/// The guest is initialised; the run begins with the instruction after this.
#[inline(always)]
pub fn ready() {
    call::<{ abi::PORT_READY }>(0, 0);
}

/// An NMI body begins, which sees `regs`.
#[inline(always)]
pub fn body_begin(regs: *const abi::Regs) {
    // SAFETY: as in `call`; RSI has no meaning here, so it is not loaded.
    unsafe {
        asm!("out {}, eax", const abi::PORT_BODY_BEGIN, in("rdi") regs, options(nostack, preserves_flags));
    }
}

/// The NMI body ends.
#[inline(always)]
pub fn body_end() {
    // SAFETY: as in `call`; there are no arguments.
    unsafe {
        asm!("out {}, eax", const abi::PORT_BODY_END, options(nostack, preserves_flags));
    }
}

/// The scenario is over; its work came to `checksum`.
#[inline(always)]
pub fn scenario_end(checksum: u64) {
    call::<{ abi::PORT_SCENARIO_END }>(checksum, 0);
}

/// The guest gives up, saying why.
pub fn panic(message: &[u8]) {
    call::<{ abi::PORT_PANIC }>(message.as_ptr() as u64, message.len() as u64);
}

/// Registers `handler` for NMIs with the hypervisor (mode `pv`); `flags` are
/// `abi::CALLBACKF_…`. The result is zero, or a negative error number.
pub fn register_nmi_callback(handler: u64, flags: u16) -> i64 {
    register_callback(abi::CALLBACKTYPE_NMI, handler, flags)
}

/// Registers `handler` for what `kind` says (`abi::CALLBACKTYPE_…`).
pub fn register_callback(kind: u16, handler: u64, flags: u16) -> i64 {
    let request = abi::CallbackRegister { kind, flags, pad: 0, address: handler };
    // SAFETY: the hypervisor only reads `request`.
    unsafe { hypercall::<{ abi::HYPERCALL_CALLBACK_OP }>(abi::CALLBACKOP_REGISTER, &raw const request as u64) }
}

/// Says where the kernel's stack begins for what interrupts user mode.
pub fn set_kernel_stack(ss: u64, rsp: u64) -> i64 {
    // SAFETY: nothing is on that stack while user mode runs.
    unsafe { hypercall::<{ abi::HYPERCALL_STACK_SWITCH }>(ss, rsp) }
}

/// Says what GS's base is in user mode.
pub fn set_user_gs(base: u64) -> i64 {
    // SAFETY: the kernel's base stays as it is.
    unsafe { hypercall::<{ abi::HYPERCALL_SET_SEGMENT_BASE }>(abi::SEGBASE_GS_USER, base) }
}

/// Says which page table user mode runs on; `root` is a physical address.
pub fn set_user_root(root: u64) -> i64 {
    let request = abi::MmuextOp { cmd: abi::MMUEXT_NEW_USER_BASEPTR as u32, pad: 0, mfn: root / PAGE, arg2: 0 };
    // SAFETY: the hypervisor only reads `request`.
    unsafe { hypercall::<{ abi::HYPERCALL_MMUEXT_OP }>(&raw const request as u64, 1) }
}

/// Has events delivered as FRED does (mode `pv`). The result is as above.
pub fn configure_fred(config: &abi::FredConfig) -> i64 {
    // SAFETY: the hypervisor only reads `config`.
    unsafe { hypercall::<{ abi::HYPERCALL_FRED_CONFIG }>(&raw const *config as u64, 0) }
}

/// A PV hypercall with two arguments.
///
/// # Safety
/// The arguments must be what that hypercall wants; it must be one that returns.
unsafe fn hypercall<const NUMBER: u64>(rdi: u64, rsi: u64) -> i64 {
    let rax: u64;
    // SAFETY: the caller vouches for the arguments; the result is in RAX.
    unsafe {
        asm!("call hypercall_page + {} * {}", const STUB_BYTES, const NUMBER, out("rax") rax, in("rdi") rdi, in("rsi") rsi);
    }
    rax as i64
}
