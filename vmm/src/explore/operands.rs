//! What an instruction does with its operands, as far as `uses.rs` asks.

use crate::cpu::Regs;
use iced_x86::{Mnemonic, OpAccess, OpKind, Register, UsedMemory};

use guest::abi;

use super::needs::{ID, STATUS};
use crate::image::{Decoded, Flow};
use crate::inject::Session;
use crate::machine::register;

/// What an instruction does with the values it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Puts them elsewhere.
    Moves,
    /// Compares two.
    Compares { ands: bool },
    /// Adds a constant to one.
    Adds,
    /// Something else.
    Works,
}

impl Does {
    /// Of this instruction.
    pub fn of(d: &Decoded) -> Self {
        let plain = |r: Register| r == Register::None || r.is_gpr();
        match d.insn.mnemonic() {
            Mnemonic::Mov if plain(d.insn.op0_register()) && plain(d.insn.op1_register()) => Does::Moves,
            Mnemonic::Push | Mnemonic::Pop | Mnemonic::Xchg | Mnemonic::Movsq | Mnemonic::Iretq => Does::Moves,
            Mnemonic::Cmp => Does::Compares { ands: false },
            Mnemonic::Test => Does::Compares { ands: true },
            Mnemonic::Lea | Mnemonic::Add | Mnemonic::Sub => Does::Adds,
            // Rounding a stack pointer down: its twin's lowest bits are its own.
            Mnemonic::And if d.insn.op1_kind() != OpKind::Register && d.insn.immediate(1) | 15 == u64::MAX => {
                Does::Adds
            }
            _ => Does::Works,
        }
    }
}

/// Whether an operand's old value is looked at.
pub fn reads(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Write | OpAccess::CondWrite | OpAccess::NoMemAccess)
}

/// Registers that an OUT hands over and nobody looks at.
pub fn ignored(d: &Decoded, full: Register) -> bool {
    full == Register::RAX && d.insn.mnemonic() == Mnemonic::Out && d.port().is_some_and(|port| port != abi::PORT_PV)
}

/// An operation with a constant, on flags, that has nothing to do with status and mark.
pub fn leaves_status(d: &Decoded) -> bool {
    if matches!(d.insn.op1_kind(), OpKind::Register | OpKind::Memory) {
        return false;
    }
    let constant = d.insn.immediate(1);
    let bits = match d.insn.mnemonic() {
        Mnemonic::Test | Mnemonic::Or | Mnemonic::Xor => constant,
        Mnemonic::And => !constant,
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr => 1 << (constant & 63),
        _ => return false,
    };
    bits & (STATUS | ID) == 0
}

/// What the CPU or the VMM reads beyond the operands: its address, and how many bytes. The last
/// five words of it are a frame.
pub fn beyond_operands(d: &Decoded, regs: &Regs) -> Option<(u64, u64)> {
    if d.flow == Flow::Iret {
        return Some((regs.rsp, size_of::<abi::Frame>() as u64));
    }
    match d.port()? {
        abi::PORT_BODY_BEGIN => Some((regs.rdi, size_of::<abi::Regs>() as u64)),
        abi::PORT_PV => Some((regs.rsp, size_of::<abi::IretContext>() as u64)),
        // FRED's frame, from the error code on up to SS.
        abi::PORT_ERETS | abi::PORT_ERETU => Some((regs.rsp, 48)),
        _ => None,
    }
}

/// A memory operand's address.
pub fn address(session: &Session, used: &UsedMemory) -> Option<u64> {
    let state = session.machine().state();
    used.virtual_address(0, |reg, _, _| match reg {
        Register::GS => Some(state.sregs.gs.base),
        Register::FS => Some(state.sregs.fs.base),
        reg if reg.is_segment_register() => Some(0),
        reg => register(&state.regs, reg),
    })
}

/// The value of a 64-bit operand.
pub fn value(session: &Session, d: &Decoded, operand: u32) -> Option<u64> {
    let state = session.machine().state();
    match d.insn.op_kind(operand) {
        OpKind::Register => register(&state.regs, d.insn.op_register(operand)),
        OpKind::Memory => {
            let at = d.insn.virtual_address(operand, 0, |reg, _, _| match reg {
                Register::GS => Some(state.sregs.gs.base),
                Register::FS => Some(state.sregs.fs.base),
                reg if reg.is_segment_register() => Some(0),
                reg => register(&state.regs, reg),
            })?;
            session.machine().memory().word(state.sregs.cr3, at)
        }
        _ => Some(d.insn.immediate(operand)),
    }
}
