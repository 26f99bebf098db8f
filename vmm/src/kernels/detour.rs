//! Faults that a handler is made to take: by the CPU's events, or by a detour through code of the
//! kernel's that faults.

use super::case::{Run, Step};
use super::error::LabError;
use super::fault_by::{Away, Detour, Fault};
use super::pc::Stop;

impl Run<'_> {
    /// The handler takes a fault here.
    pub(super) fn fault(&mut self) -> Result<Step, LabError> {
        self.faults = false;
        let lab = &mut *self.lab;
        let fault = lab.kernel.fault(&lab.pc, &lab.path, lab.fault_by)?.ok_or(LabError::NoFault)?;
        let stop = match fault {
            Fault::Page(fault) => lab.pc.page_fault(fault, lab.limit)?,
            Fault::Breakpoint => lab.pc.breakpoint(lab.limit)?,
            Fault::Detour(detour) => self.leave(detour)?,
        };
        self.took(stop)
    }

    /// Sets out on a detour; execution then stands at its first instruction.
    fn leave(&mut self, detour: Detour) -> Result<Stop, LabError> {
        let pc = &mut self.lab.pc;
        let regs = pc.state().regs;
        let end = match detour {
            Detour::Call { function, arguments: [rdi, rsi, rdx] } => {
                let rsp = regs.rsp - 8;
                // The handler runs on it, and has written there.
                pc.write_dirty("the handler's stack", rsp, regs.rip)?;
                let now = &mut pc.state_mut().regs;
                (now.rip, now.rsp, now.rdi, now.rsi, now.rdx) = (function, rsp, rdi, rsi, rdx);
                now.rax = rdi;
                regs.rip
            }
            Detour::From { start, end } => {
                pc.state_mut().regs.rip = start;
                end
            }
        };
        self.away.push(Away { end, rsp: regs.rsp, regs });
        Ok(Stop::At(pc.rip()))
    }

    /// Where the detours that execution is on are over.
    pub(super) fn ends_of_detours(&self) -> impl Iterator<Item = u64> + '_ {
        self.away.iter().map(|away| away.end)
    }

    /// If a detour is over here, execution is back where it began. Of several, it is the last that
    /// ends here; those begun after it were left in another way.
    pub(super) fn come_back(&mut self) {
        let pc = &mut self.lab.pc;
        let here = (pc.rip(), pc.state().regs.rsp);
        if let Some(i) = self.away.iter().rposition(|away| (away.end, away.rsp) == here) {
            pc.state_mut().regs = self.away[i].regs;
            self.away.truncate(i);
        }
    }
}
