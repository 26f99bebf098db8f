//! The guest's own trap flag.
//!
//! With TF set when an instruction begins, #DB comes behind it (SDM vol. 3, 17.3.1.4). So
//! the step's successor is the #DB handler's first instruction, which has a stop as every
//! handler has. Where a HLT byte stops execution that stands at a boundary with TF set,
//! the HLT itself is stepped, and its #DB is dropped (`resume_patched`).

use super::lab::Machine;
use super::needs::no_truth;
use crate::cpu::rflags;
use crate::image::code::{Decoded, Flow};

impl Machine {
    /// Why this instruction cannot be executed truthfully with the TF that is set, here
    /// or by the lab at all; `None` where it can, and where TF is clear.
    pub(super) fn cannot_trap(&self, d: &Decoded) -> Option<String> {
        if self.state().regs.rflags & rflags::TF == 0 {
            return None;
        }
        let quirks = self.quirks.tf;
        let why = match d.flow {
            _ if quirks.wrong => no_truth("tf-hlt-stop"),
            _ if quirks.wrong_at_mov_ss && d.loads_ss() => no_truth("tf-mov-ss"),
            _ if quirks.wrong_at_sti && d.is_sti() => no_truth("tf-sti"),
            _ if quirks.wrong_at_swapgs && d.insn.mnemonic() == iced_x86::Mnemonic::Swapgs => no_truth("tf-swapgs"),
            Flow::Iret | Flow::Sysret | Flow::Syscall | Flow::Repeat | Flow::Halt => not_modelled(),
            _ if d.port().is_some() => not_modelled(),
            _ => return None,
        };
        Some(format!("single-stepped (TF) `{}` at {}: {why}", d.text(), self.place(d.insn.ip())))
    }
}

fn not_modelled() -> String {
    "the lab does not follow #DB behind it".into()
}
