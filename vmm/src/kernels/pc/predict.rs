//! What the model of the CPU says of the next instruction or event, beside KVM.

use super::Pc;
use crate::cpu::{self, Access, Cpu, End, Model, NotUnderstood, Provenance, Ram};

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next instruction, all of it: a repeated string instruction is one.
    Instruction,
    /// The delivery of an NMI.
    Nmi,
    /// A page fault of the next instruction.
    PageFault(super::PageFault),
}

/// What the VMM does in an instruction's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It leaves the function that begins there.
    Return {
        /// With a value of its own in RAX.
        sets_rax: bool,
    },
    /// It reads the clock that it holds: RAX and RDX.
    Clock {
        /// And RCX.
        aux: bool,
    },
}

/// Iterations of one repeated string instruction, at most.
const ITERATIONS: usize = 1 << 16;

impl Pc {
    /// A model of a CPU that does what this host's does where processors differ.
    pub fn model(&self) -> Model {
        Model::new(cpu::Knobs { delivery_clears_ac: self.delivery_clears_ac, ..cpu::Knobs::default() })
    }

    /// The state that the model comes to, with what is accessed appended to `log`. The machine stays
    /// as it is.
    ///
    /// # Errors
    /// [`NotUnderstood`] says what the model does not say anything about.
    pub fn predict<P: Provenance>(
        &mut self,
        model: &mut Model,
        mut cpu: Cpu,
        next: Next,
        log: &mut Vec<Access>,
        p: &mut P,
    ) -> Result<(Cpu, End), NotUnderstood> {
        let begin = log.len();
        let rip = cpu.regs.rip;
        let mut ram = Ram::new(self.vm.ram_mut(), log);
        let end = match next {
            Next::Nmi => model.deliver_nmi(&mut cpu, &mut ram, p),
            Next::PageFault(fault) => {
                cpu.sregs.cr2 = fault.address;
                p.set_register(cpu::Register::Cr2, P::KNOWN);
                model.deliver_exception(&mut cpu, &mut ram, p, cpu::vector::PF, Some(fault.code))
            }
            Next::Instruction => {
                let mut end = model.step(&mut cpu, &mut ram, p);
                let mut left = ITERATIONS;
                while end == End::Next && cpu.regs.rip == rip && left > 0 {
                    end = model.step(&mut cpu, &mut ram, p);
                    left -= 1;
                }
                end
            }
        };
        // KVM executes it on memory as it was.
        let ram = self.vm.ram_mut();
        for a in log[begin..].iter().rev().filter(|a| a.write) {
            let (at, size) = (a.paddr as usize, usize::from(a.size));
            ram[at..at + size].copy_from_slice(&a.before.to_le_bytes()[..size]);
        }
        match end {
            End::NotUnderstood(why) => Err(why),
            end => Ok((cpu, end)),
        }
    }

    /// What the VMM itself does in the next instruction's place, if anything.
    pub fn answer_here(&self) -> Option<Answer> {
        let rip = self.rip();
        match () {
            () if self.skips(rip) => Some(Answer::Return { sets_rax: false }),
            () if self.answers_breakpoint(rip) => Some(Answer::Return { sets_rax: true }),
            () => self.held_clock_read().map(|aux| Answer::Clock { aux }),
        }
    }
}
