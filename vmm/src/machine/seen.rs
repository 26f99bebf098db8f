//! What a step tells the lab besides where it ends.

use super::error::Error;
use super::lab::Machine;
use super::stop::Stop;
use crate::cpu::msr::TIME_MSRS;
use crate::image::vectors::has_error_code;
use crate::image::{Decoded, Flow};

impl Machine {
    /// An instruction is about to be executed, and is looked at. One that uses what its image says
    /// this scheme and scenario do not use is an error: it would go unread.
    pub(super) fn see(&mut self, d: &Decoded) -> Result<(), Error> {
        let classes = d.classes();
        match self.uses {
            Some(uses) if !uses.has(classes) => {
                return Err(Error::Contract(format!(
                    "`{}` at {} uses registers of a class that neither the scheme nor the scenario declares: say uses= \
                     (debug, vector) in the note of one of them",
                    d.text(),
                    self.place(d.insn.ip())
                )));
            }
            None if !classes.is_empty() => self.vm.add_lazy_classes(classes),
            _ => {}
        }
        let msr = d.insn.mnemonic() == iced_x86::Mnemonic::Rdmsr && TIME_MSRS.contains(&(self.state().regs.rcx as u32));
        if msr || d.reads_time() {
            self.saw_time(d.insn.ip());
        }
        Ok(())
    }

    /// The instruction at `rip` reads time or randomness.
    pub(super) fn saw_time(&mut self, rip: u64) {
        self.time_reads += 1;
        self.read_time = Some(self.read_time.map_or(rip, |lowest| lowest.min(rip)));
    }

    /// The lowest address of an instruction that was seen to read time or randomness, since this
    /// was last forgotten: no run through it can be repeated, and no proof holds over it.
    pub fn read_time(&self) -> Option<u64> {
        self.read_time
    }

    /// [`Machine::read_time`] begins again.
    pub fn forget_read_time(&mut self) {
        self.read_time = None;
    }

    /// How many instructions that read time or randomness were seen to execute.
    pub fn time_reads(&self) -> u64 {
        self.time_reads
    }

    /// Why a step cannot have been the instruction `d` alone; `None` where it can. It ended
    /// where its successors are, at a fault of its own, or where it leaves the guest.
    pub(super) fn strayed(&self, stop: &Stop, d: &Decoded, target: Option<u64>) -> Option<String> {
        let (rip, next) = (d.insn.ip(), d.insn.next_ip());
        let ends_there = match stop {
            Stop::Boundary => match self.idt.vector_of(self.rip()) {
                Some(vector) if self.rip() != next && target != Some(self.rip()) => {
                    self.raised_at(vector, &[Some(rip), Some(next), target])
                }
                _ => true,
            },
            Stop::Undeclared(vector) => self.raised_at(*vector, &[Some(rip), Some(next), target]),
            Stop::Halt => self.rip() == rip,
            Stop::Hypercall(port) => d.port().is_none_or(|own| own == *port) && asks(d),
            Stop::Pv(_) => asks(d) || matches!(d.flow, Flow::Syscall),
            Stop::Lost | Stop::Shutdown | Stop::Interrupted | Stop::Failed(_) => true,
        };
        (!ends_there).then(|| {
            format!(
                "the step of `{}` at {} did not end at a successor of it, but at {} ({stop:?})",
                d.text(),
                self.place(rip),
                self.place(self.rip())
            )
        })
    }

    /// Whether the frame of `vector`, at whose handler's first instruction the machine
    /// stands, was pushed at one of `places`. A frame that cannot be read is the oracle's to
    /// judge.
    fn raised_at(&self, vector: u8, places: &[Option<u64>]) -> bool {
        let state = self.state();
        let error = if has_error_code(vector) { 8 } else { 0 };
        let pushed = self.memory().word(state.sregs.cr3, state.regs.rsp.wrapping_add(error));
        pushed.is_none() || places.contains(&pushed)
    }
}

/// Whether an instruction leaves the guest to ask the VMM.
fn asks(d: &Decoded) -> bool {
    d.port().is_some() || d.insn.mnemonic() == iced_x86::Mnemonic::Out
}
