//! From iced-x86's instructions to the model's.

use iced_x86::{Instruction, MemorySize, Mnemonic as M, OpKind, Register as R};

use super::op::{Address, Alu, Base, Bit, Condition, Decoded, Op, Operand, Rep, Shift, Str, TableOp};

/// Takes an instruction of 64-bit code apart.
pub(super) fn lift(insn: &Instruction) -> Decoded {
    let mut operands = [Operand::None; 3];
    let count = (insn.op_count() as usize).min(3);
    for (i, slot) in operands.iter_mut().enumerate().take(count) {
        *slot = operand(insn, i as u32);
    }
    let [a, b, c] = operands;
    let size = match a {
        Operand::Reg { size, .. } | Operand::Mem { size } => size,
        Operand::High { .. } => 1,
        _ => 8,
    };
    let mut d = Decoded {
        op: Op::Unknown,
        size,
        len: insn.len() as u8,
        rep: Rep::None,
        a,
        b,
        c,
        mem: address(insn),
        mnemonic: insn.mnemonic(),
    };
    d.op = if insn.op_count() > 3 || operands_unknown(insn) { Op::Unknown } else { operation(insn, &mut d) };
    d
}

fn operation(insn: &Instruction, d: &mut Decoded) -> Op {
    if let Some(condition) = condition(insn) {
        return condition;
    }
    match insn.mnemonic() {
        M::Mov => return mov(d),
        M::Movsb | M::Movsw | M::Movsq | M::Stosb | M::Stosw | M::Stosd | M::Stosq | M::Lodsb | M::Lodsw => {
            return string(insn, d);
        }
        M::Lodsd | M::Lodsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq | M::Cmpsb | M::Cmpsw | M::Cmpsq => {
            return string(insn, d);
        }
        M::Movsd | M::Cmpsd if insn.is_string_instruction() => return string(insn, d),
        _ => {}
    }
    let (op, size) = operation_and_size(insn.mnemonic(), d.size);
    d.size = size;
    match (op, d.b) {
        // The port, and not the register that goes there, is the first operand of OUT.
        (Op::Out, Operand::Reg { size, .. }) => d.size = size,
        (Op::Push | Op::Pop, _) => d.size = stack_size(insn),
        (Op::Nop, _) => (d.a, d.b) = (Operand::None, Operand::None),
        (Op::RetFar, _) => d.size = far_size(insn),
        (Op::Loop(_), _) => d.size = loop_size(insn),
        _ => {}
    }
    match (op, insn.op0_kind()) {
        (Op::Jmp, OpKind::Memory) if is_far(insn) => Op::JmpFar,
        (Op::Call, OpKind::Memory) if is_far(insn) => Op::CallFar,
        // Near branches with a 16-bit operand differ between vendors.
        (Op::Jmp | Op::Call | Op::Ret | Op::Loop(_) | Op::Jrcxz, _) if near_size(insn) != 8 => Op::Unknown,
        (Op::Imul, _) if insn.op_count() == 1 => Op::Multiply { signed: true },
        _ => op,
    }
}

/// Mnemonics that are one operation, with the operand size where the mnemonic says it.
#[rustfmt::skip]
fn operation_and_size(mnemonic: M, size: u8) -> (Op, u8) {
    let op = match mnemonic {
        M::Movzx => Op::Movzx, M::Movsx | M::Movsxd => Op::Movsx,
        M::Lea => Op::Lea, M::Xchg => Op::Xchg, M::Bswap => Op::Bswap, M::Xlatb => Op::Xlat,
        M::Push => Op::Push, M::Pop => Op::Pop,
        M::Pushfq => return (Op::Pushf, 8), M::Pushf => return (Op::Pushf, 2),
        M::Popfq => return (Op::Popf, 8), M::Popf => return (Op::Popf, 2),
        M::Leave => Op::Leave,
        M::Add => Op::Alu(Alu::Add), M::Or => Op::Alu(Alu::Or), M::Adc => Op::Alu(Alu::Adc),
        M::Sbb => Op::Alu(Alu::Sbb), M::And => Op::Alu(Alu::And), M::Sub => Op::Alu(Alu::Sub),
        M::Xor => Op::Alu(Alu::Xor), M::Cmp => Op::Alu(Alu::Cmp), M::Test => Op::Alu(Alu::Test),
        M::Inc => Op::Inc, M::Dec => Op::Dec, M::Neg => Op::Neg, M::Not => Op::Not,
        M::Mul => Op::Multiply { signed: false }, M::Imul => Op::Imul,
        M::Div => Op::Divide { signed: false }, M::Idiv => Op::Divide { signed: true },
        M::Rol => Op::Shift(Shift::Rol), M::Ror => Op::Shift(Shift::Ror), M::Rcl => Op::Shift(Shift::Rcl),
        M::Rcr => Op::Shift(Shift::Rcr), M::Shl | M::Sal => Op::Shift(Shift::Shl),
        M::Shr => Op::Shift(Shift::Shr), M::Sar => Op::Shift(Shift::Sar),
        M::Shld => Op::DoubleShift { left: true }, M::Shrd => Op::DoubleShift { left: false },
        M::Bt => Op::Bit(Bit::Test), M::Bts => Op::Bit(Bit::Set), M::Btr => Op::Bit(Bit::Reset),
        M::Btc => Op::Bit(Bit::Complement),
        M::Bsf => Op::Scan { reverse: false }, M::Bsr => Op::Scan { reverse: true },
        M::Jmp => Op::Jmp, M::Call => Op::Call, M::Ret => Op::Ret, M::Retf => Op::RetFar,
        M::Loop => Op::Loop(None), M::Loope => Op::Loop(Some(true)), M::Loopne => Op::Loop(Some(false)),
        M::Jrcxz => return (Op::Jrcxz, 8), M::Jecxz => return (Op::Jrcxz, 4),
        M::Int => Op::Int, M::Int3 => Op::Int3, M::Int1 => Op::Int1,
        M::Ud0 | M::Ud1 | M::Ud2 => Op::Ud,
        M::Iretq => return (Op::Iret, 8), M::Iretd => return (Op::Iret, 4), M::Iret => return (Op::Iret, 2),
        M::Syscall => Op::Syscall,
        M::Sysretq => return (Op::Sysret, 8), M::Sysret => return (Op::Sysret, 4),
        M::Cmpxchg => Op::Cmpxchg, M::Cmpxchg8b => Op::Cmpxchg8b, M::Xadd => Op::Xadd,
        M::Lahf => Op::Lahf, M::Sahf => Op::Sahf,
        M::Cbw => return (Op::Widen, 2), M::Cwde => return (Op::Widen, 4), M::Cdqe => return (Op::Widen, 8),
        M::Cwd => return (Op::SignToD, 2), M::Cdq => return (Op::SignToD, 4), M::Cqo => return (Op::SignToD, 8),
        M::Clc => Op::Clc, M::Stc => Op::Stc, M::Cmc => Op::Cmc, M::Cld => Op::Cld, M::Std => Op::Std,
        M::Cli => Op::Cli, M::Sti => Op::Sti, M::Hlt => Op::Hlt,
        M::Nop | M::Pause | M::Lfence | M::Mfence | M::Sfence | M::Endbr64 | M::Endbr32 => Op::Nop,
        M::Prefetcht0 | M::Prefetcht1 | M::Prefetcht2 | M::Prefetchnta | M::Prefetchw => Op::Nop,
        M::In => Op::In, M::Out => Op::Out, M::Swapgs => Op::Swapgs,
        M::Rdmsr => Op::Rdmsr, M::Wrmsr => Op::Wrmsr,
        M::Lgdt => Op::Table(TableOp::Lgdt), M::Lidt => Op::Table(TableOp::Lidt),
        M::Sgdt => Op::Table(TableOp::Sgdt), M::Sidt => Op::Table(TableOp::Sidt),
        M::Lldt => Op::Lldt, M::Ltr => Op::Ltr, M::Sldt => Op::Sldt, M::Str => Op::Str16,
        M::Invlpg => Op::Invlpg, M::Wbinvd | M::Invd => Op::Wbinvd, M::Clts => Op::Clts, M::Smsw => Op::Smsw,
        M::Rdfsbase => Op::ReadBase(Base::Fs), M::Rdgsbase => Op::ReadBase(Base::Gs),
        M::Wrfsbase => Op::WriteBase(Base::Fs), M::Wrgsbase => Op::WriteBase(Base::Gs),
        M::Rdtsc | M::Rdtscp | M::Rdpmc | M::Rdrand | M::Rdseed | M::Cpuid => Op::Outside,
        _ => Op::Unknown,
    };
    (op, size)
}

/// MOV is several instructions.
fn mov(d: &mut Decoded) -> Op {
    match (d.a, d.b) {
        (Operand::Sreg(_), _) => {
            d.size = 2;
            Op::MovToSreg
        }
        (_, Operand::Sreg(_)) => Op::MovFromSreg,
        (Operand::Cr(_), _) => Op::MovToCr,
        (_, Operand::Cr(_)) => Op::MovFromCr,
        (Operand::Dr(_), _) => Op::MovToDr,
        (_, Operand::Dr(_)) => Op::MovFromDr,
        _ => Op::Mov,
    }
}

/// A string instruction. Its addresses are RSI's, in [`Decoded::mem`], and RDI's.
fn string(insn: &Instruction, d: &mut Decoded) -> Op {
    d.size = insn.memory_size().size() as u8;
    d.rep = match (insn.has_rep_prefix(), insn.has_repne_prefix()) {
        (true, _) => Rep::Equal,
        (_, true) => Rep::NotEqual,
        _ => Rep::None,
    };
    let narrow = |kind| matches!(kind, OpKind::MemorySegESI | OpKind::MemoryESEDI);
    let segment = if let R::FS = insn.memory_segment() {
        Base::Fs
    } else if let R::GS = insn.memory_segment() {
        Base::Gs
    } else {
        Base::None
    };
    d.mem = Address {
        base: 6,
        index: Address::NO,
        shift: 0,
        narrow: narrow(insn.op0_kind()) || narrow(insn.op1_kind()),
        stack: insn.memory_segment() == R::SS,
        segment,
        disp: 0,
    };
    match insn.mnemonic() {
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => Op::Str(Str::Movs),
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => Op::Str(Str::Stos),
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => Op::Str(Str::Lods),
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => Op::Str(Str::Cmps),
        _ => Op::Str(Str::Scas),
    }
}

fn condition(insn: &Instruction) -> Option<Op> {
    use iced_x86::ConditionCode as C;
    let condition = match insn.condition_code() {
        C::None => return None,
        C::o => Condition::O,
        C::no => Condition::No,
        C::b => Condition::B,
        C::ae => Condition::Ae,
        C::e => Condition::E,
        C::ne => Condition::Ne,
        C::be => Condition::Be,
        C::a => Condition::A,
        C::s => Condition::S,
        C::ns => Condition::Ns,
        C::p => Condition::P,
        C::np => Condition::Np,
        C::l => Condition::L,
        C::ge => Condition::Ge,
        C::le => Condition::Le,
        C::g => Condition::G,
    };
    let name = |prefix: &str| format!("{:?}", insn.mnemonic()).starts_with(prefix);
    if insn.is_jcc_short_or_near() {
        // A 16-bit operand size truncates RIP on some processors.
        return (near_size(insn) == 8).then_some(Op::Jcc(condition)).or(Some(Op::Unknown));
    }
    if name("Cmov") {
        Some(Op::Cmov(condition))
    } else if name("Set") {
        Some(Op::Setcc(condition))
    } else {
        None // LOOPcc, which has a condition code, too
    }
}

fn operand(insn: &Instruction, i: u32) -> Operand {
    match insn.op_kind(i) {
        OpKind::Register => register(insn.op_register(i)),
        OpKind::Memory => Operand::Mem { size: insn.memory_size().size() as u8 },
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => Operand::Imm(insn.near_branch_target()),
        OpKind::FarBranch16 | OpKind::FarBranch32 => Operand::None,
        OpKind::MemorySegRSI | OpKind::MemorySegESI | OpKind::MemoryESRDI | OpKind::MemoryESEDI => Operand::None,
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemorySegEDI | OpKind::MemorySegRDI => Operand::None,
        OpKind::MemoryESDI => Operand::None,
        _ => Operand::Imm(insn.immediate(i)),
    }
}

fn register(r: R) -> Operand {
    if r.is_gpr64() || r.is_gpr32() || r.is_gpr16() {
        return Operand::Reg { n: r.number() as u8, size: r.size() as u8 };
    }
    match r {
        R::AH | R::CH | R::DH | R::BH => Operand::High { n: (r as u8).wrapping_sub(R::AH as u8) },
        _ if r.is_gpr8() => Operand::Reg { n: (r.full_register().number()) as u8, size: 1 },
        _ if r.is_segment_register() => Operand::Sreg(r.number() as u8),
        _ if r.is_cr() => Operand::Cr(r.number() as u8),
        _ if r.is_dr() => Operand::Dr(r.number() as u8),
        _ => Operand::None,
    }
}

/// Whether an operand is a register that the model does not have: vector, mask, x87, …
fn operands_unknown(insn: &Instruction) -> bool {
    (0..insn.op_count()).any(|i| insn.op_kind(i) == OpKind::Register && register(insn.op_register(i)) == Operand::None)
}

fn address(insn: &Instruction) -> Address {
    let number = |r: R| if r == R::None || r.is_ip() { Address::NO } else { r.number() as u8 };
    let (base, index) = (insn.memory_base(), insn.memory_index());
    Address {
        base: number(base),
        index: number(index),
        shift: insn.memory_index_scale().trailing_zeros() as u8,
        narrow: base.is_gpr32()
            || index.is_gpr32()
            || base == R::EIP
            || base == R::None && index == R::None && insn.memory_displ_size() == 4,
        stack: insn.memory_segment() == R::SS,
        segment: match insn.memory_segment() {
            R::FS => Base::Fs,
            R::GS => Base::Gs,
            _ => Base::None,
        },
        disp: insn.memory_displacement64(),
    }
}

fn is_far(insn: &Instruction) -> bool {
    matches!(insn.memory_size(), MemorySize::SegPtr16 | MemorySize::SegPtr32 | MemorySize::SegPtr64)
}

fn near_size(insn: &Instruction) -> usize {
    use iced_x86::Code::*;
    match insn.code() {
        Retnw | Retnw_imm16 | Jmp_rm16 | Call_rm16 | Jmp_rel8_16 | Jmp_rel16 | Call_rel16 => 2,
        _ if insn.op0_kind() == OpKind::NearBranch16 => 2,
        _ => 8,
    }
}

fn loop_size(insn: &Instruction) -> u8 {
    use iced_x86::Code::*;
    if matches!(insn.code(), Loop_rel8_64_ECX | Loope_rel8_64_ECX | Loopne_rel8_64_ECX) { 4 } else { 8 }
}

fn stack_size(insn: &Instruction) -> u8 {
    insn.stack_pointer_increment().unsigned_abs() as u8
}

fn far_size(insn: &Instruction) -> u8 {
    use iced_x86::Code::*;
    match insn.code() {
        Retfq | Retfq_imm16 => 8,
        Retfd | Retfd_imm16 => 4,
        _ => 2,
    }
}
