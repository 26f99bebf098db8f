//! One instruction at a time: stops at all its possible successors.

use std::time::Duration;

use super::machine::Way;
use super::{Error, Pc, Stop};
use crate::cpu::rflags;
use crate::image::{Code, Decoded, Flow};
use crate::machine::register;

/// How long one instruction may take.
const LIMIT: Duration = Duration::from_millis(500);

impl Pc {
    /// The instruction that comes next, read from memory as it is now.
    pub fn next_instruction(&self) -> Option<Decoded> {
        self.instruction(self.rip())
    }

    /// The instruction at `addr`, read from memory as it is now.
    pub fn instruction(&self, addr: u64) -> Option<Decoded> {
        let mut bytes = [0; 15];
        let len = (1..=15).rev().find(|n| self.read(addr, &mut bytes[..*n]))?;
        Code::decode(64, &bytes[..len], addr)
    }

    /// A register's part of an address: for a segment register its base.
    pub fn register(&self, reg: iced_x86::Register) -> Option<u64> {
        use iced_x86::Register;
        let state = self.state();
        match reg {
            Register::GS => Some(state.sregs.gs.base),
            Register::FS => Some(state.sregs.fs.base),
            reg if reg.is_segment_register() => Some(0),
            reg => register(&state.regs, reg),
        }
    }

    /// The value of an effective address in the present state.
    fn effective(&self, d: &Decoded, operand: u32) -> Option<u64> {
        d.insn.virtual_address(operand, 0, |reg, _, _| self.register(reg))
    }

    /// Where execution may stand after the next instruction, were it not to fault;
    /// `None` for a return to CPL 3 where the lab sets no stops.
    fn successors(&self, d: &Decoded) -> Option<Vec<u64>> {
        let (next, rsp) = (d.insn.next_ip(), self.state().regs.rsp);
        Some(match d.flow {
            Flow::Syscall if self.hooks.user_stops => self.hooks.syscall.into_iter().collect(),
            Flow::Next | Flow::Repeat | Flow::Trap | Flow::Halt | Flow::Syscall => vec![next],
            Flow::To(target) => vec![target],
            Flow::Either(target) => vec![next, target],
            Flow::Indirect => {
                let target = match d.insn.op0_kind() {
                    iced_x86::OpKind::Register => register(&self.state().regs, d.insn.op0_register()),
                    _ => self.effective(d, 0).and_then(|at| self.word(at)),
                };
                target.into_iter().collect()
            }
            Flow::Return => self.word(rsp).into_iter().collect(),
            Flow::Iret => {
                let [rip, cs] = self.words::<2>(rsp)?;
                if cs & 3 != 0 && !self.hooks.user_stops {
                    return None;
                }
                vec![rip]
            }
            Flow::Sysret if self.hooks.user_stops => vec![self.state().regs.rcx],
            Flow::Sysret => return None,
        })
    }

    /// Executes one instruction, or takes the exception that it raises. A
    /// repeated string instruction is one. From an instruction that returns to CPL 3
    /// it runs on, to whatever comes next.
    pub fn step(&mut self) -> Result<Stop, Error> {
        let rip = self.rip();
        if self.skips(rip) {
            self.return_from_function()?;
            return Ok(Stop::At(self.rip()));
        }
        if self.answers_breakpoint(rip) {
            self.answer_breakpoint()?;
            return Ok(Stop::At(self.rip()));
        }
        if self.answer_rdtsc() {
            return Ok(Stop::At(self.rip()));
        }
        let Some(d) = self.next_instruction() else {
            return Ok(Stop::Failed(format!("no instruction at {}", self.symbols.show(rip))));
        };
        let Some(mut stops) = self.successors(&d) else { return self.run(&[], LIMIT) };
        if stops.contains(&rip) {
            match d.taken(self.state().regs.rflags) {
                _ if d.insn.mnemonic() == iced_x86::Mnemonic::Jmp => return Ok(Stop::At(rip)),
                Some(true) => return Ok(Stop::At(rip)),
                Some(false) => stops.retain(|s| *s != rip),
                None if d.flow == Flow::Iret => return self.iret_to_self(),
                None => {
                    let at = self.symbols.show(rip);
                    return Ok(Stop::Failed(format!("an instruction whose target is itself, at {at}")));
                }
            }
        }
        // Where a host leaves a SYSCALL half done, the fault that ends it is no stop.
        let syscall = d.flow == Flow::Syscall && self.cpl() == 3;
        let passed = self.hooks.page_fault.filter(|_| syscall);
        stops.extend(self.handlers().into_iter().filter(|h| *h != rip && Some(*h) != passed));
        // A stop is an instruction, which consumes the RF that an iretq has loaded for the next one.
        let frame = if d.flow == Flow::Iret { self.words::<3>(self.state().regs.rsp) } else { None };
        let stop = self.enter(&stops, LIMIT, Way { delivers: false, looks_in: syscall, steps: true })?;
        if let Some([.., flags]) = frame.filter(|[to, ..]| stop == Stop::At(*to)) {
            self.state_mut().regs.rflags |= flags & rflags::RF;
        }
        Ok(stop)
    }

    /// An iretq to itself does nothing but load flags, RSP and SS, over and over: as
    /// the frame it finds is the same only where RSP is, its effect is written down.
    fn iret_to_self(&mut self) -> Result<Stop, Error> {
        let (rip, rsp) = (self.rip(), self.state().regs.rsp);
        let Some([_, _, flags, to_rsp]) = self.words::<4>(rsp) else {
            return Ok(Stop::Failed("an iretq whose frame is not mapped".into()));
        };
        let state = self.vm.state_mut();
        (state.regs.rflags, state.regs.rsp) = (flags | 2, to_rsp);
        state.events.nmi.masked = 0;
        Ok(Stop::At(rip))
    }

    /// The handler of an interrupt vector, read from the IDT as it is now.
    pub fn handler(&self, vector: u8) -> Option<u64> {
        self.words::<2>(self.state().sregs.idt.base + 16 * u64::from(vector)).and_then(handler_of)
    }

    /// The handlers of all exceptions, NMI included.
    pub fn handlers(&self) -> Vec<u64> {
        match self.words::<64>(self.state().sregs.idt.base) {
            Some(gates) => gates.as_chunks::<2>().0.iter().filter_map(|gate| handler_of(*gate)).collect(),
            // The table ends sooner.
            None => (0..32).filter_map(|v| self.handler(v)).collect(),
        }
    }
}

/// Where a gate of the IDT leads, if it is present (SDM vol. 3, 6.14.1).
fn handler_of([low, high]: [u64; 2]) -> Option<u64> {
    let present = low >> 47 & 1 != 0;
    present.then_some(low & 0xffff | low >> 32 & 0xffff_0000 | high << 32)
}
