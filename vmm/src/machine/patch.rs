//! Exact stops on any KVM: a HLT byte at the boundary, run to it, put the byte
//! back, set RIP. Hardware breakpoints and the trap flag differ from host to host;
//! this does not.

use iced_x86::{OpKind, Register};

use super::error::Error;
use super::lab::Machine;
use super::paging::translate;
use super::stop::Stop;
use crate::image::Decoded;

const HLT: u8 = 0xf4;
/// Vectors of the two faults that stand for something else where user code runs.
const GP: u8 = 13;
const PF: u8 = 14;
/// How often one instruction may be interrupted: by a signal, or by the watchdog where
/// the machine is so loaded that this thread was not run for that long.
const PATIENCE: u32 = 10;

impl Machine {
    /// Puts a stop at `addr` for the next run: where the page tables at hand say that it
    /// lies, or else, since they may be exchanged on the way, where the image says. One that
    /// neither knows is left out: execution cannot get there without a fault, which has a
    /// stop of its own.
    pub(super) fn patch(&mut self, addr: u64) {
        let mapped = translate(self.vm.ram().bytes(), self.vm.state().sregs.cr3, addr);
        let Some(paddr) = mapped.or_else(|| self.guest.image.paddr(addr)).map(|p| p as usize) else { return };
        if self.patches.iter().any(|(p, ..)| *p == paddr) {
            return;
        }
        if let Some(byte) = self.vm.ram_mut().get_mut(paddr) {
            let old = std::mem::replace(byte, HLT);
            self.patches.push((paddr, addr, old));
        }
    }

    /// Puts a stop at the first instruction of every handler but `except`.
    pub(super) fn patch_handlers_but(&mut self, except: u64) {
        for i in 0.. {
            let Some(handler) = self.idt.handlers().nth(i) else { break };
            if handler != except {
                self.patch(handler);
            }
        }
    }

    /// Puts a stop at the first instruction of every handler.
    pub(super) fn patch_handlers(&mut self) {
        self.patch_handlers_but(0);
    }

    /// Whether a stop was put at `addr`.
    pub(super) fn is_patched(&self, addr: u64) -> bool {
        self.patches.iter().any(|(_, at, _)| *at == addr)
    }

    /// Whether an operand of an instruction lies where a stop was put: it would read the lab's byte,
    /// or write over it.
    pub(super) fn touches_patches(&self, d: &Decoded) -> bool {
        let state = self.state();
        let value = |register: Register| match register {
            Register::GS => Some(state.sregs.gs.base),
            Register::FS => Some(state.sregs.fs.base),
            other if other.is_segment_register() => Some(0),
            other => super::step::register(&state.regs, other.full_register()).map(|v| truncated(v, other)),
        };
        let size = d.insn.memory_size().size().max(1) as u64;
        (0..d.insn.op_count()).any(|i| {
            let at = match d.insn.op_kind(i) {
                OpKind::Register
                | OpKind::NearBranch16
                | OpKind::NearBranch32
                | OpKind::NearBranch64
                | OpKind::FarBranch16
                | OpKind::FarBranch32 => None,
                _ => d.insn.virtual_address(i, 0, |register, _, _| value(register)),
            };
            at.is_some_and(|at| (at..at.saturating_add(size)).any(|at| self.is_patched_at(at)))
        })
    }

    fn is_patched_at(&self, vaddr: u64) -> bool {
        // Whatever the page, its offset in it is the same: the page tables are asked only then.
        let near = self.patches.iter().any(|(p, ..)| *p as u64 % 4096 == vaddr % 4096);
        near && translate(self.vm.ram().bytes(), self.state().sregs.cr3, vaddr)
            .is_some_and(|paddr| self.patches.iter().any(|(p, ..)| *p as u64 == paddr))
    }

    /// Takes the stops away again without a run.
    pub(super) fn unpatch(&mut self) {
        let ram = self.vm.ram_mut();
        for (paddr, _, old) in self.patches.drain(..).rev() {
            ram[paddr] = old;
        }
    }

    /// Runs with the stops that were put, and takes them away again.
    pub(super) fn resume_patched(&mut self) -> Result<Stop, Error> {
        self.resume_patiently(PATIENCE)
    }

    /// The same; a run that was interrupted is taken up again up to `patience` times.
    pub(super) fn resume_patiently(&mut self, patience: u32) -> Result<Stop, Error> {
        let before = self.entries();
        let mut patience = patience;
        let mut stop = self.resume();
        loop {
            match stop {
                Ok(Stop::Interrupted) if patience > 0 => patience -= 1,
                Ok(Stop::Halt | Stop::Undeclared(GP)) if self.undo_user_stop(&before) => {
                    stop = Ok(Stop::Halt);
                    break;
                }
                Ok(Stop::Halt | Stop::Undeclared(PF)) if self.complete_syscall(&before) => {
                    if self.is_patched(self.rip()) {
                        stop = Ok(Stop::Halt);
                        break;
                    }
                }
                _ => break,
            }
            stop = self.resume();
        }
        let ram = self.vm.ram_mut();
        let mut lost = None;
        for (paddr, at, old) in self.patches.iter().rev() {
            match ram[*paddr] {
                HLT => ram[*paddr] = *old,
                _ => lost = Some(*at), // what the guest wrote stays
            }
        }
        let rip = self.vm.state().regs.rip;
        let ours = self.is_patched(rip);
        self.patches.clear();
        if let (Some(at), Ok(_)) = (lost, &stop) {
            let at = self.place(at);
            return Ok(Stop::Failed(format!("the guest wrote over its code at {at}, where a stop of the lab's was")));
        }
        match stop? {
            Stop::Halt if ours => {
                // With TF set, the HLT itself was single-stepped: its trap is none of
                // the guest's. One that the guest has coming stops at its handler.
                self.vm.state_mut().events.exception = Default::default();
                Ok(Stop::Boundary)
            }
            other => Ok(other),
        }
    }
}

/// A register's part of the 64-bit register that it belongs to.
fn truncated(value: u64, register: Register) -> u64 {
    match register.size() {
        4 => value & 0xffff_ffff,
        2 => value & 0xffff,
        1 => value & 0xff, // AL, of XLAT
        _ => value,
    }
}
