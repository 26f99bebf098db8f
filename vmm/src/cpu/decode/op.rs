//! Operations and operands: what an encoding says, taken apart.

use iced_x86::Mnemonic;

/// A condition of Jcc, SETcc and CMOVcc, in the order of the encoding (SDM vol. 1, appendix B).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the condition of that suffix")]
pub enum Condition {
    O,
    No,
    B,
    Ae,
    E,
    Ne,
    Be,
    A,
    S,
    Ns,
    P,
    Np,
    L,
    Ge,
    Le,
    G,
}

/// A segment override that counts in 64-bit mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Base {
    None,
    Fs,
    Gs,
}

/// How the address of a memory operand is formed.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Address {
    /// General register, or [`Address::NO`].
    pub base: u8,
    /// General register, or [`Address::NO`].
    pub index: u8,
    /// Shift of the index: 0 to 3.
    pub shift: u8,
    /// 32-bit addresses.
    pub narrow: bool,
    /// A fault is #SS and not #GP.
    pub stack: bool,
    pub segment: Base,
    /// Displacement; for a RIP-relative operand the address.
    pub disp: u64,
}

impl Address {
    pub const NO: u8 = 0xff;
}

/// An operand. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Operand {
    None,
    Reg {
        n: u8,
        size: u8,
    },
    /// AH, CH, DH or BH: the second byte of register `n`.
    High {
        n: u8,
    },
    Imm(u64),
    /// At [`Decoded::mem`].
    Mem {
        size: u8,
    },
    /// ES, CS, SS, DS, FS, GS: 0 to 5.
    Sreg(u8),
    Cr(u8),
    Dr(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Shift {
    Rol,
    Ror,
    Rcl,
    Rcr,
    Shl,
    Shr,
    Sar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Bit {
    Test,
    Set,
    Reset,
    Complement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Str {
    Movs,
    Stos,
    Lods,
    Cmps,
    Scas,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Rep {
    None,
    /// REP or REPE.
    Equal,
    NotEqual,
}

/// LGDT and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum TableOp {
    Lgdt,
    Lidt,
    Sgdt,
    Sidt,
}

/// What is done. Variants carry the names of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Op {
    Mov,
    Movzx,
    Movsx,
    Lea,
    Xchg,
    Cmov(Condition),
    Setcc(Condition),
    Bswap,
    Xlat,
    Push,
    Pop,
    Pushf,
    Popf,
    Leave,
    Alu(Alu),
    Inc,
    Dec,
    Neg,
    Not,
    /// MUL, or IMUL with one operand.
    Multiply {
        signed: bool,
    },
    /// IMUL with two or three operands.
    Imul,
    Divide {
        signed: bool,
    },
    Shift(Shift),
    DoubleShift {
        left: bool,
    },
    Bit(Bit),
    Scan {
        reverse: bool,
    },
    Jcc(Condition),
    Jmp,
    Call,
    Ret,
    /// LOOP, and with a value of ZF that it wants.
    Loop(Option<bool>),
    Jrcxz,
    JmpFar,
    CallFar,
    RetFar,
    Int,
    Int3,
    Int1,
    Ud,
    Iret,
    Syscall,
    Sysret,
    Str(Str),
    Cmpxchg,
    Cmpxchg8b,
    Xadd,
    Lahf,
    Sahf,
    /// CBW, CWDE, CDQE.
    Widen,
    /// CWD, CDQ, CQO.
    SignToD,
    Clc,
    Stc,
    Cmc,
    Cld,
    Std,
    Cli,
    Sti,
    Nop,
    Hlt,
    In,
    Out,
    Swapgs,
    MovFromCr,
    MovToCr,
    MovFromDr,
    MovToDr,
    MovFromSreg,
    MovToSreg,
    Rdmsr,
    Wrmsr,
    Table(TableOp),
    Lldt,
    Ltr,
    Sldt,
    Str16,
    Invlpg,
    /// INVD, WBINVD: caches, which the model has not.
    Wbinvd,
    Clts,
    Smsw,
    ReadBase(Base),
    WriteBase(Base),
    /// Reads time, randomness or what the host is.
    Outside,
    Unknown,
}

/// An instruction, taken apart.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Decoded {
    pub op: Op,
    /// Operand size in bytes.
    pub size: u8,
    /// Length in bytes.
    pub len: u8,
    pub rep: Rep,
    pub a: Operand,
    pub b: Operand,
    pub c: Operand,
    pub mem: Address,
    pub mnemonic: Mnemonic,
}
