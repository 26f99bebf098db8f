//! What this host leaves in flags that the architecture calls undefined: measured once, by
//! executing a shift and a multiplication.

use std::sync::OnceLock;

use super::boot;
use super::error::Error;
use super::layout::{MEASURING_RAM, OWN_CODE};
use crate::cpu::{Undefined, rflags};
use crate::kvm::{Exit, Host, Vm};

/// `shl $4, %rax; hlt`.
const SHIFT: &[u8] = &[0x48, 0xc1, 0xe0, 0x04, 0xf4];
/// `imul %rax, %rax; hlt`.
const PRODUCT: &[u8] = &[0x48, 0x0f, 0xaf, 0xc0, 0xf4];
/// Squared, it fits, and the result's sign bit is set in the low half.
const FACTOR: u64 = 0xb504_f334;

static MEASURED: OnceLock<Undefined> = OnceLock::new();

/// What this host does.
pub(super) fn measure(host: &Host) -> Result<Undefined, Error> {
    if let Some(known) = MEASURED.get() {
        return Ok(*known);
    }
    let mut vm = Vm::new(host, MEASURING_RAM)?;
    boot::flat(&mut vm, &[])?;
    let shifted = flags_after(&mut vm, SHIFT, 1)?;
    let product = flags_after(&mut vm, PRODUCT, FACTOR)?;
    let measured = Undefined { shift_sets_af: shifted & rflags::AF != 0, product_keeps: product & rflags::SF == 0 };
    Ok(*MEASURED.get_or_init(|| measured))
}

/// RFLAGS after `code` with RAX and all flags clear.
fn flags_after(vm: &mut Vm, code: &[u8], rax: u64) -> Result<u64, Error> {
    vm.ram_mut()[OWN_CODE as usize..OWN_CODE as usize + code.len()].copy_from_slice(code);
    vm.state_mut().regs = crate::cpu::Regs { rip: OWN_CODE, rax, rflags: rflags::FIXED, ..Default::default() };
    match vm.run()? {
        Exit::Hlt => Ok(vm.state().regs.rflags),
        other => Err(Error::Host(format!("it does not execute a shift or a multiplication: {other:?}"))),
    }
}
