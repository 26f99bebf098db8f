//! What the machine does at the first instruction of a hooked function.

use super::error::Error;
use super::machine::Pc;
use super::stop::Stop;
use crate::cpu::rflags;

impl Pc {
    /// Breakpoints of the lab's that are to be answered for.
    pub fn breakpoints(&self) -> u32 {
        self.breakpoints
    }

    /// Sets how many there are.
    pub fn set_breakpoints(&mut self, breakpoints: u32) {
        self.breakpoints = breakpoints;
    }

    /// Whether `addr` begins a function that is skipped.
    pub(super) fn skips(&self, addr: u64) -> bool {
        let Some(skip) = self.hooks.complaint.as_ref().filter(|_| self.frozen.is_some()) else { return false };
        let caller = || self.word(self.state().regs.rsp);
        skip.function == addr
            && (skip.callers.is_empty() || caller().is_some_and(|c| skip.callers.iter().any(|r| r.contains(&c))))
    }

    /// Where SYSCALL goes, if the kernel names it.
    pub fn syscall_entry(&self) -> Option<u64> {
        self.hooks.syscall
    }

    /// Whether `addr` begins the function that asks debuggers about a breakpoint which the lab raised.
    pub(super) fn answers_breakpoint(&self, addr: u64) -> bool {
        self.breakpoints > 0 && self.hooks.notifier == Some(addr)
    }

    /// Answers for that breakpoint: leaves the function with `NOTIFY_STOP`.
    pub(super) fn answer_breakpoint(&mut self) -> Result<(), Error> {
        const NOTIFY_STOP: u64 = 0x8001; // include/linux/notifier.h
        self.breakpoints -= 1;
        self.return_from_function()?;
        self.vm.state_mut().regs.rax = NOTIFY_STOP;
        Ok(())
    }

    /// Leaves the function at whose first instruction execution stands.
    pub(super) fn return_from_function(&mut self) -> Result<(), Error> {
        let rsp = self.state().regs.rsp;
        let to = self.word(rsp).ok_or(Error::Unreadable { what: "a return address", addr: rsp })?;
        let regs = &mut self.vm.state_mut().regs;
        (regs.rip, regs.rsp) = (to, rsp + 8);
        Ok(())
    }

    /// Gets past a hook that had nothing to do.
    pub(super) fn pass(&mut self) -> Result<Option<Stop>, Error> {
        use iced_x86::Mnemonic;
        let rip = self.rip();
        let Some(d) = self.next_instruction() else {
            return Err(Error::Unreadable { what: "an instruction", addr: rip });
        };
        let regs = &mut self.vm.state_mut().regs;
        match d.insn.mnemonic() {
            Mnemonic::Nop | Mnemonic::Endbr64 => {}
            Mnemonic::Cld => regs.rflags &= !rflags::DF,
            _ => {
                self.passing = Some(rip);
                let stop = self.step();
                self.passing = None;
                return Ok(match stop? {
                    Stop::At(_) => None,
                    other => Some(other),
                });
            }
        }
        regs.rip = d.insn.next_ip();
        Ok(None)
    }
}
