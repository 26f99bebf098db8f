//! Provenance across what is not an instruction of the guest's: the VMM's hypercalls, its
//! deliveries, and what the oracle compares.

use guest::abi;

use super::lab::Machine;
use super::paging::translate;
use super::pv::Outcome;
use crate::cpu::{Provenance, Register, Traced, rflags};

const RSP: Register = Register::Gpr(4);
const RAX: Register = Register::Gpr(0);
const RCX: Register = Register::Gpr(1);
const RDI: Register = Register::Gpr(7);
const R11: Register = Register::Gpr(11);

/// RFLAGS that decide what is executed, or that the oracle looks at by themselves.
const SYSTEM: u64 = rflags::TF | rflags::IF | rflags::NT | rflags::RF | rflags::VM | rflags::AC | rflags::IOPL;

/// The registers of [`abi::Regs`], in its order; `None` for the error code, the CS and the SS
/// slot.
const VIEW: [Option<Register>; 21] = [
    Some(Register::Gpr(15)),
    Some(Register::Gpr(14)),
    Some(Register::Gpr(13)),
    Some(Register::Gpr(12)),
    Some(Register::Gpr(5)),
    Some(Register::Gpr(3)),
    Some(R11),
    Some(Register::Gpr(10)),
    Some(Register::Gpr(9)),
    Some(Register::Gpr(8)),
    Some(RAX),
    Some(RCX),
    Some(Register::Gpr(2)),
    Some(Register::Gpr(6)),
    Some(RDI),
    None,
    Some(Register::Rip),
    None,
    Some(Register::Flags),
    Some(RSP),
    None,
];
/// The word of the error code, which nobody compares.
const ERROR: usize = 15;

/// What a return by the VMM loads: provenance of the words of its frame.
pub(super) struct Frame {
    /// `(register, where its word stands)`.
    loads: Vec<(Register, u64)>,
    /// The word of RFLAGS.
    flags: u64,
    /// Words that decide how it returns.
    decide: Vec<u64>,
}

impl Machine {
    /// Follows from now on where values come from: every byte is an input. `None` stops it.
    pub fn set_trace(&mut self, trace: Option<Box<Traced>>) {
        self.predictor.trace = trace;
    }

    /// Takes what was followed.
    pub fn take_trace(&mut self) -> Option<Box<Traced>> {
        self.predictor.trace.take()
    }

    fn paddr(&self, vaddr: u64) -> Option<u64> {
        translate(self.memory().0, self.state().sregs.cr3, vaddr)
    }

    /// RSP is held to the declared stacks after each instruction.
    pub(super) fn trace_stack(&mut self) {
        if let Some(trace) = &mut self.predictor.trace {
            let rsp = trace.register(RSP);
            if !trace.is_known(&rsp, 8) {
                trace.look(&rsp, u64::MAX);
            }
        }
    }

    /// The oracle compares what the body is shown, GS's base, and the flags.
    pub(super) fn trace_view(&mut self) {
        let (at, ram_words) = (self.state().regs.rdi, VIEW.len() as u64);
        let words: Vec<Option<u64>> = (0..ram_words).map(|i| self.paddr(at.wrapping_add(8 * i))).collect();
        let Some(trace) = &mut self.predictor.trace else { return };
        for register in [RDI, Register::GsBase] {
            let word = trace.register(register);
            trace.look(&word, u64::MAX);
        }
        trace.look_flags(SYSTEM | rflags::DF);
        for (_, (paddr, register)) in words.iter().zip(VIEW).enumerate().filter(|(i, _)| *i != ERROR) {
            let Some(paddr) = *paddr else { continue };
            match register {
                Some(register) if paddr % 8 == 0 && trace.holds(paddr, register) => {}
                other => {
                    let word = trace.memory(paddr, 8);
                    trace.look(&word, u64::MAX);
                    other.iter().for_each(|r| trace.look_at_register(*r));
                }
            }
        }
    }

    /// The frame that a hypercall returns by, before it is made.
    pub(super) fn traced_frame(&mut self, port: u8, rax: u64, rsp: u64) -> Option<Frame> {
        self.predictor.trace.as_ref()?;
        let user = self.pv().has_user_mode();
        let word = |i: u64| self.paddr(rsp.wrapping_add(8 * i));
        let frame = match port {
            abi::PORT_PV if rax == abi::HYPERCALL_IRET => Frame {
                loads: vec![
                    (RAX, word(0)?),
                    (R11, word(1)?),
                    (RCX, word(2)?),
                    (Register::Rip, word(4)?),
                    (RSP, word(7)?),
                ],
                flags: word(6)?,
                decide: vec![word(3)?, word(5)?, word(8)?],
            },
            abi::PORT_ERETS | abi::PORT_ERETU => Frame {
                loads: vec![(Register::Rip, word(1)?), (RSP, word(4)?)],
                flags: word(3)?,
                decide: vec![word(2)?, word(5)?],
            },
            _ => return None,
        };
        let trace = self.predictor.trace.as_mut()?;
        for register in [RSP, RAX] {
            let held = trace.register(register);
            trace.look(&held, u64::MAX);
        }
        if user {
            // Both bases of GS may be exchanged.
            for register in [Register::GsBase, Register::KernelGs] {
                let held = trace.register(register);
                trace.look(&held, u64::MAX);
                trace.set_register(register, Traced::KNOWN);
            }
        }
        Some(frame)
    }

    /// The hypercall was made. Any but a plain return looks at everything it can have looked at;
    /// one that reads other memory ends what can be followed.
    pub(super) fn trace_return(&mut self, frame: Option<Frame>, outcome: &Outcome) {
        let in_syscall = matches!(outcome, Outcome::Resumed { .. }) && self.state().regs.rcx == self.state().regs.rip;
        let Some(trace) = &mut self.predictor.trace else { return };
        let Some(frame) = frame.filter(|_| matches!(outcome, Outcome::Resumed { .. }) && !in_syscall) else {
            self.predictor.trace = None;
            return;
        };
        for paddr in &frame.decide {
            let word = trace.memory(*paddr, 8);
            trace.look(&word, u64::MAX);
        }
        let flags = trace.memory(frame.flags, 8);
        trace.look(&flags, SYSTEM | !0x3f_ffff);
        trace.move_flags(u64::MAX, &flags);
        for (register, paddr) in frame.loads {
            let word = trace.memory(paddr, 8);
            if register == Register::Rip {
                trace.canonical(&word, true);
            }
            trace.set_register(register, word);
        }
    }

    /// The VMM has delivered an NMI to a PV guest, whose context was that of `before`: its frame
    /// holds words of it.
    pub(super) fn trace_delivery(&mut self, before: &crate::kvm::VcpuState) {
        if self.predictor.trace.is_none() {
            return;
        }
        let rsp = self.state().regs.rsp;
        let slots: &[Option<Register>] = match self.pv().fred {
            Some(_) => &[None, Some(Register::Rip), None, Some(Register::Flags), Some(RSP), None, None, None],
            None => &[Some(RCX), Some(R11), Some(Register::Rip), None, Some(Register::Flags), Some(RSP), None],
        };
        let places: Vec<_> = (0..slots.len() as u64).map(|i| self.paddr(rsp + 8 * i)).collect();
        let (user, same_stack) = (before.sregs.cs.selector & 3 == 3, self.state().regs.rsp < before.regs.rsp);
        let Some(trace) = &mut self.predictor.trace else { return };
        if !user && same_stack {
            // Where the frame stands depends on it.
            let held = trace.register(RSP);
            trace.look(&held, u64::MAX);
        }
        if user {
            for register in [Register::GsBase, Register::KernelGs] {
                let held = trace.register(register);
                trace.look(&held, u64::MAX);
                trace.set_register(register, Traced::KNOWN);
            }
        }
        let words: Vec<_> = slots
            .iter()
            .map(|slot| match slot {
                Some(Register::Flags) => trace.flags(0),
                Some(register) => trace.register(*register),
                None => Traced::KNOWN,
            })
            .collect();
        trace.look_flags(SYSTEM);
        for (paddr, word) in places.into_iter().zip(words) {
            if let Some(paddr) = paddr {
                trace.set_memory(paddr, 8, word);
            }
        }
        trace.set_register(RSP, Traced::KNOWN);
        trace.set_register(Register::Rip, Traced::KNOWN);
        match self.pv.fred {
            Some(_) => trace.move_flags(u64::MAX, &Traced::KNOWN),
            None => trace.move_flags(SYSTEM, &Traced::KNOWN),
        }
    }
}
