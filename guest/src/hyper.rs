//! Hypercalls to the VMM: `out` to a port of the contract.

use core::arch::asm;

use guest::abi;

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
    let request = abi::CallbackRegister { kind: abi::CALLBACKTYPE_NMI, flags, pad: 0, address: handler };
    // SAFETY: the hypervisor only reads `request`.
    unsafe { hypercall(abi::HYPERCALL_CALLBACK_OP, abi::CALLBACKOP_REGISTER, &raw const request as u64) }
}

/// Has events delivered as FRED does (mode `pv`). The result is as above.
pub fn configure_fred(config: &abi::FredConfig) -> i64 {
    // SAFETY: the hypervisor only reads `config`.
    unsafe { hypercall(abi::HYPERCALL_FRED_CONFIG, &raw const *config as u64, 0) }
}

/// A PV hypercall with two arguments.
///
/// # Safety
/// The arguments must be what that hypercall wants; it must be one that returns.
unsafe fn hypercall(number: u64, rdi: u64, rsi: u64) -> i64 {
    let mut rax = number;
    // SAFETY: the caller vouches for the arguments; the result is in RAX.
    unsafe {
        asm!("out {}, eax", const abi::PORT_PV, inout("rax") rax, in("rdi") rdi, in("rsi") rsi, options(nostack));
    }
    rax as i64
}
