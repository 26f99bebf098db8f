//! How a step ends.

use iced_x86::Mnemonic;

/// What a step, or the delivery of an event, came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The instruction is complete, and RIP at the next one. Of a repeated string
    /// instruction one iteration is complete.
    Next,
    /// An event was delivered: RIP is at its handler.
    Delivered(Delivered),
    /// An OUT is complete: RIP is at the next instruction, and somebody outside has the value.
    Out {
        /// Port number.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// Value, zero-extended. It does not count as looked at: that is for who takes it.
        value: u32,
    },
    /// An IN is complete but for its value, which [`super::complete_in`] sets.
    In {
        /// Port number.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
    },
    /// A HLT is complete: RIP is at the next instruction.
    Halt,
    /// Triple fault. Registers are those before the instruction or event.
    Shutdown,
    /// The model does not say. Registers are those before the instruction.
    NotUnderstood(NotUnderstood),
}

/// An exception, interrupt or NMI whose handler is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Vector.
    pub vector: u8,
    /// The error code on the stack.
    pub error_code: Option<u32>,
    /// The address that a page fault put into CR2.
    pub cr2: Option<u64>,
    /// RFLAGS.AC was set and is cleared ([`super::Knobs::delivery_clears_ac`]).
    pub cleared_ac: bool,
}

/// Why the model does not say what an instruction does. Such an instruction counts as
/// reading everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// The model does not know the instruction, or this form of it.
    #[error("the model does not know {0:?}")]
    Instruction(Mnemonic),
    /// The bytes are no instruction that the decoder knows.
    #[error("the decoder does not know the instruction")]
    Undecodable,
    /// Its result is time, randomness, or of the host.
    #[error("{0:?} reads time, randomness, or what the host is")]
    Outside(Mnemonic),
    /// It tests flags that the SDM leaves undefined; RFLAGS bits.
    #[error("it tests flags that are undefined here ({0:#x})")]
    UndefinedFlags(u64),
    /// It accesses physical memory that the model has not, or that is read-only.
    #[error("it accesses guest-physical {0:#x}, which is not ordinary memory")]
    Memory(u64),
    /// It accesses an MSR that is not carried.
    #[error("MSR {0:#x} is not carried")]
    Msr(u32),
    /// The CPU is in a mode that the model does not know, or would get there.
    #[error("{0} is not modelled")]
    Mode(&'static str),
    /// Its result is undefined, or differs from processor to processor.
    #[error("{0}")]
    Undefined(&'static str),
}

/// An exception that an instruction raises, before its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub vector: u8,
    pub code: Option<u32>,
    pub cr2: Option<u64>,
}

/// Why an instruction does not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Fault(Fault),
    Unknown(NotUnderstood),
}

impl From<NotUnderstood> for Stop {
    fn from(why: NotUnderstood) -> Self {
        Self::Unknown(why)
    }
}

/// What a part of an instruction gives.
pub(super) type Run<T> = Result<T, Stop>;

/// Vectors of exceptions (SDM vol. 3, table 7-1).
#[expect(missing_docs, reason = "each is the vector of that mnemonic")]
pub mod vector {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const UD: u8 = 6;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
}

/// An exception without an error code.
pub(super) fn plain(vector: u8) -> Stop {
    Stop::Fault(Fault { vector, code: None, cr2: None })
}

/// An exception with an error code.
pub(super) fn coded(vector: u8, code: u32) -> Stop {
    Stop::Fault(Fault { vector, code: Some(code), cr2: None })
}

/// #GP(0).
pub(super) fn gp() -> Stop {
    coded(vector::GP, 0)
}

/// #UD.
pub(super) fn ud() -> Stop {
    plain(vector::UD)
}

/// What the model does not know of a mode.
pub(super) fn mode(what: &'static str) -> Stop {
    NotUnderstood::Mode(what).into()
}
