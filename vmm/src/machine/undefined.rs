//! What this host leaves in flags that the architecture calls undefined: measured once, by
//! executing an instruction of each kind, at CPL 0 and at CPL 3.
//!
//! The two differ on kvm_pvm on an Intel processor. Its emulator, which executes what is at CPL 0,
//! rotates by CL where the code says by a constant, and OF comes out otherwise (symptom: states
//! after `rol $5, %rax` that the model did not predict).

use std::sync::OnceLock;

use super::boot;
use super::error::Error;
use super::layout::{MEASURING_RAM, OWN_CODE, TABLES};
use super::paging::read_u64;
use crate::cpu::rflags::{AF, CF, OF, SF};
use crate::cpu::{Overflow, Overflows, Regs, Undefined, rflags};
use crate::kvm::{Exit, Host, Vm};

/// A measurement: an instruction, and RAX and flags before it. RCX is 4, and RDX is 0.
type Measured = (&'static [u8], u64, u64);

// Of 64-bit RAX; by four where they shift.
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
/// Shifted to the left, the first step changes the sign bit, and the fourth does not. No step
/// changes that of zero.
const FIRST: u64 = 1 << 62;

const MEASURED: [Measured; 13] = [
    (SHL, 1, 0),
    (IMUL, FACTOR, 0),
    (BSF, 1, CF),
    (SHL_BY_CL, FIRST, 0),
    (SHL_BY_CL, 0, OF),
    (SHLD, FIRST, 0),
    (SHLD, 0, OF),
    (ROL_BY_CL, FIRST, 0),
    (ROL_BY_CL, 0, OF),
    (ROL, FIRST, 0),
    (ROL, 0, OF),
    (RCL, FIRST, 0),
    (RCL, 0, OF),
];

/// The top of the stack that RFLAGS are pushed to, with room for all of them after the boot tables.
const STACK: u64 = TABLES.end + 8 * MEASURED.len() as u64;

/// What the host does at CPL 0 and at CPL 3.
pub(super) fn measure(host: &Host) -> Result<[Undefined; 2], Error> {
    static KNOWN: OnceLock<[Undefined; 2]> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let measured = [at_cpl(host, 0)?, at_cpl(host, 3)?];
    Ok(*KNOWN.get_or_init(|| measured))
}

fn at_cpl(host: &Host, cpl: u8) -> Result<Undefined, Error> {
    let mut vm = Vm::new(host, MEASURING_RAM)?;
    boot::flat(&mut vm, &[])?;
    open_to_user(vm.ram_mut());
    let code = code();
    vm.ram_mut()[OWN_CODE as usize..OWN_CODE as usize + code.len()].copy_from_slice(&code);
    let state = vm.state_mut();
    state.regs = Regs { rip: OWN_CODE, rsp: STACK, rflags: rflags::FIXED, ..Default::default() };
    for segment in [&mut state.sregs.cs, &mut state.sregs.ss] {
        (segment.dpl, segment.selector) = (cpl, segment.selector | u16::from(cpl));
    }
    // At CPL 3, HLT raises #GP, for which there is no handler.
    match (vm.run()?, cpl) {
        (Exit::Hlt, 0) | (Exit::Shutdown, 3) => {}
        (other, _) => {
            return Err(Error::Host(format!("it does not execute shifts and products at CPL {cpl}: {other:?}")));
        }
    }
    let pushed = |i: usize| read_u64(vm.ram().bytes(), STACK - 8 * (i as u64 + 1));
    let mut flags = [0; MEASURED.len()];
    for (i, flags) in flags.iter_mut().enumerate() {
        let value = pushed(i).filter(|value| value & rflags::FIXED != 0);
        *flags = value.ok_or_else(|| Error::Host(format!("RFLAGS are not pushed at CPL {cpl}")))?;
    }
    let [shl, imul, bsf, of @ ..] = flags;
    let overflow = |kind: usize| match [of[2 * kind] & OF != 0, of[2 * kind + 1] & OF != 0] {
        [true, _] => Overflow::FirstStep,
        [false, true] => Overflow::Kept,
        [false, false] => Overflow::LastStep,
    };
    Ok(Undefined {
        shift_sets_af: shl & AF != 0,
        product_keeps: imul & SF == 0,
        scan_keeps: bsf & CF != 0,
        overflow: Overflows {
            shift: overflow(0),
            double_shift: overflow(1),
            rotate: overflow(2),
            rotate_by_constant: overflow(3),
            through_carry: overflow(4),
        },
    })
}

/// Code for all of them, which pushes RFLAGS after each.
fn code() -> Vec<u8> {
    const HLT: u8 = 0xf4;
    let mut code = vec![0xb9, 4, 0, 0, 0]; // mov $4, %ecx
    for (insn, rax, flags) in MEASURED {
        code.push(0x68); // push flags
        code.extend((flags as u32).to_le_bytes());
        code.push(0x9d); // popf
        code.extend([0x48, 0xb8]); // movabs rax, %rax
        code.extend(rax.to_le_bytes());
        code.extend(insn);
        code.push(0x9c); // pushf
    }
    code.push(HLT);
    code
}

/// Lets CPL 3 reach all that the boot tables map.
fn open_to_user(ram: &mut [u8]) {
    const PRESENT: u64 = 1 << 0; // SDM vol. 3, 4.5.5
    const USER: u64 = 1 << 2;
    for at in TABLES.step_by(8) {
        if let Some(entry) = read_u64(ram, at).filter(|entry| entry & PRESENT != 0) {
            ram[at as usize..at as usize + 8].copy_from_slice(&(entry | USER).to_le_bytes());
        }
    }
}
