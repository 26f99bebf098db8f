//! What this host leaves in flags that the architecture calls undefined: measured once, by
//! executing an instruction of each kind.

use std::sync::OnceLock;

use super::boot;
use super::error::Error;
use super::layout::{MEASURING_RAM, OWN_CODE};
use crate::cpu::rflags::{AF, CF, OF, SF};
use crate::cpu::{Overflow, Overflows, Undefined, rflags};
use crate::kvm::{Exit, Host, Vm};

// Each is of 64-bit RAX, by four where it shifts.
const SHL: &[u8] = &[0x48, 0xc1, 0xe0, 0x04];
const SHL_BY_CL: &[u8] = &[0x48, 0xd3, 0xe0];
const SHLD: &[u8] = &[0x48, 0x0f, 0xa4, 0xd0, 0x04]; // from RDX
const ROL: &[u8] = &[0x48, 0xc1, 0xc0, 0x04];
const ROL_BY_CL: &[u8] = &[0x48, 0xd3, 0xc0];
const RCL: &[u8] = &[0x48, 0xc1, 0xd0, 0x04];
const IMUL: &[u8] = &[0x48, 0x0f, 0xaf, 0xc0];
const BSF: &[u8] = &[0x48, 0x0f, 0xbc, 0xc0];
/// Squared, it fits, and the result's sign bit is set in the low half.
const FACTOR: u64 = 0xb504_f334;
/// Shifted to the left, the first step changes the sign bit, and the fourth does not.
const FIRST: u64 = 1 << 62;

static MEASURED: OnceLock<Undefined> = OnceLock::new();

/// What this host does.
pub(super) fn measure(host: &Host) -> Result<Undefined, Error> {
    if let Some(known) = MEASURED.get() {
        return Ok(*known);
    }
    let mut vm = Vm::new(host, MEASURING_RAM)?;
    boot::flat(&mut vm, &[])?;
    let vm = &mut vm;
    let measured = Undefined {
        shift_sets_af: flags_after(vm, SHL, 1, 0)? & AF != 0,
        product_keeps: flags_after(vm, IMUL, FACTOR, 0)? & SF == 0,
        scan_keeps: flags_after(vm, BSF, 1, CF)? & CF != 0,
        overflow: Overflows {
            shift: overflow(vm, SHL_BY_CL)?,
            double_shift: overflow(vm, SHLD)?,
            rotate: overflow(vm, ROL_BY_CL)?,
            rotate_by_constant: overflow(vm, ROL)?,
            through_carry: overflow(vm, RCL)?,
        },
    };
    Ok(*MEASURED.get_or_init(|| measured))
}

/// What OF is after a shift to the left by four.
fn overflow(vm: &mut Vm, shift: &[u8]) -> Result<Overflow, Error> {
    let is_set = |flags: u64| flags & OF != 0;
    Ok(match is_set(flags_after(vm, shift, FIRST, 0)?) {
        true => Overflow::FirstStep,
        // No step changes the sign bit of zero.
        false if is_set(flags_after(vm, shift, 0, OF)?) => Overflow::Kept,
        false => Overflow::LastStep,
    })
}

/// RFLAGS after `code` with RAX and flags of these values.
fn flags_after(vm: &mut Vm, code: &[u8], rax: u64, flags: u64) -> Result<u64, Error> {
    const HLT: u8 = 0xf4;
    let code = [code, &[HLT]].concat();
    vm.ram_mut()[OWN_CODE as usize..OWN_CODE as usize + code.len()].copy_from_slice(&code);
    let rflags = rflags::FIXED | flags;
    vm.state_mut().regs = crate::cpu::Regs { rip: OWN_CODE, rax, rcx: 4, rflags, ..Default::default() };
    match vm.run()? {
        Exit::Hlt => Ok(vm.state().regs.rflags),
        other => Err(Error::Host(format!("it does not execute a shift, a multiplication or a scan: {other:?}"))),
    }
}
