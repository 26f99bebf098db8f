//! The CPU as the architecture describes it. Nothing here knows KVM.
//!
//! [`Model`] is a model of an x86-64 CPU in 64-bit mode, at CPL 0 and 3: a function from a
//! [`Cpu`] and [`Memory`] to what one instruction makes of them. It either predicts the whole
//! state or says [`End::NotUnderstood`]. The semantics are written once, over
//! [`Provenance`], which carries where values come from, or nothing ([`Untraced`]).

mod access;
mod alu;
mod bits;
pub mod conform;
pub mod control;
mod decode;
mod deliver;
pub mod descriptor;
mod end;
mod exec;
mod far;
mod fetch;
#[cfg(test)]
mod fixture;
mod flags;
mod lazy;
mod machine;
mod memory;
mod moves;
pub mod msr;
pub mod page;
mod segment;
mod shift;
mod state;
mod step;
mod string;
mod system;
#[cfg(test)]
mod tests;
mod trace;
mod value;
mod walk;

pub use access::is_canonical;
pub use decode::Condition;
pub use end::{Delivered, End, NotUnderstood, vector};
pub use lazy::{Classes, Difference, Lazy, LazyId};
pub use machine::{Cpu, Debug, Msrs};
pub use memory::{Access, Kind, Memory, Ram};
pub use state::{Events, Exception, Interrupt, Nmi, Regs, SHADOW_MOV_SS, SHADOW_STI, Segment, Sregs, Table, rflags};
pub use step::{Model, complete_in};
pub use trace::{Linear, Looks, Origin, Place, Predicate, Provenance, Register, Side, Traced, Untraced, inputs};

/// Where processors differ, or the lab wants them to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Knobs {
    /// An IRET that faults unblocks NMIs all the same, as Intel's do (SDM vol. 3, 7.7.1).
    pub faulting_iret_unblocks: bool,
    /// The delivery of any event clears RFLAGS.AC, which the architecture keeps (SDM vol. 3,
    /// 7.12.1.3): what some KVMs do.
    pub delivery_clears_ac: bool,
    /// What is left in flags that the SDM calls undefined, at CPL 0.
    pub undefined: Undefined,
    /// The same at CPL 3: a KVM may have an emulator for the one, and the processor for the other.
    pub undefined_at_cpl3: Undefined,
}

/// What processors leave in flags that the SDM calls undefined. A guest must not test them, and
/// one that does is not understood; but they are pushed with the others, so that states hold
/// them. It differs between processors, and is measured on each host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undefined {
    /// A shift sets AF (AMD's processors); otherwise it clears it.
    pub shift_sets_af: bool,
    /// A multiplication leaves SF, ZF, AF and PF as they were (AMD's processors); otherwise SF
    /// and PF are those of the low half, and ZF and AF are cleared.
    pub product_keeps: bool,
    /// BSF and BSR leave all flags but ZF as they were (AMD's processors); otherwise PF is that of
    /// the result, and CF, AF, SF and OF are cleared.
    pub scan_keeps: bool,
    /// OF after a shift or rotate by more than one.
    pub overflow: Overflows,
}

/// What OF is after a shift or rotate by more than one, where processors differ by the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflows {
    /// SHL, SHR, SAR.
    pub shift: Overflow,
    /// SHLD, SHRD.
    pub double_shift: Overflow,
    /// ROL, ROR; a register by a constant stands apart.
    pub rotate: Overflow,
    /// ROL, ROR of a register by a constant.
    pub rotate_by_constant: Overflow,
    /// RCL, RCR.
    pub through_carry: Overflow,
}

/// What OF is after a shift or rotate by more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// As after the first step, a shift by one (Intel's processors).
    #[default]
    FirstStep,
    /// As after the last step, a shift of the rest by one (AMD's processors).
    LastStep,
    /// What it was.
    Kept,
}
