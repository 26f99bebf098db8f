//! Exceptions of the instruction that comes next, as the CPU delivers them: with an error code,
//! CR2, and a frame that points at the instruction.

use std::time::Duration;

use super::{Error, Pc, Stop};
use crate::cpu::{Exception, rflags, vector};

/// A page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address that the access is said to have been to: CR2.
    pub address: u64,
    /// The error code (SDM vol. 3, 4.7).
    pub code: u32,
}

impl Pc {
    /// The next instruction faults: afterwards execution stands at the first instruction of the
    /// handler, which CPU and kernel then go through as for any fault, iretq included.
    pub fn page_fault(&mut self, fault: PageFault, limit: Duration) -> Result<Stop, Error> {
        self.state_mut().sregs.cr2 = fault.address;
        let stop = self.exception(vector::PF, Some(fault.code), limit)?;
        match matches!(stop, Stop::At(_)) && self.state().sregs.cr2 != fault.address {
            true => Ok(Stop::Failed("this KVM delivered a page fault with another address".into())),
            false => Ok(stop),
        }
    }

    /// A breakpoint comes before the next instruction: execution stands at the first instruction of
    /// its handler. When the kernel asks its notifiers about it, they have answered for it.
    pub fn breakpoint(&mut self, limit: Duration) -> Result<Stop, Error> {
        self.answered_for(vector::BP, limit)
    }

    /// The same of a debug exception. DR6 names no reason.
    pub fn debug_exception(&mut self, limit: Duration) -> Result<Stop, Error> {
        self.answered_for(vector::DB, limit)
    }

    fn answered_for(&mut self, nr: u8, limit: Duration) -> Result<Stop, Error> {
        if self.hooks.notifier.is_none() {
            return Err(Error::Symbols("there is no notify_die, by which a breakpoint is answered for".into()));
        }
        self.breakpoints += 1;
        self.exception(nr, None, limit)
    }

    /// An exception of the instruction that comes next; execution then stands at the first
    /// instruction of its handler, with a frame that points back here.
    fn exception(&mut self, nr: u8, code: Option<u32>, limit: Duration) -> Result<Stop, Error> {
        let Some(entry) = self.handler(nr) else {
            return Ok(Stop::Failed(format!("the IDT has no handler for vector {nr}")));
        };
        let from = self.rip();
        let state = self.state_mut();
        // A fault's frame has RF set, so that the instruction is not stopped at twice (SDM
        // vol. 3, 17.3.1.1).
        state.regs.rflags |= rflags::RF;
        state.events.exception = Exception {
            injected: 1,
            nr,
            has_error_code: code.is_some().into(),
            pending: 0,
            error_code: code.unwrap_or(0),
        };
        let stop = self.deliver_to(entry, limit)?;
        if stop != Stop::At(entry) {
            return Ok(stop);
        }
        let at = self.state().regs.rsp;
        let frame = match code {
            Some(code) => self.words::<2>(at).filter(|[pushed, _]| *pushed == u64::from(code)).map(|[_, rip]| rip),
            None => self.words::<1>(at).map(|[rip]| rip),
        };
        match frame == Some(from) {
            true => Ok(stop),
            false => {
                let at = self.symbols.show(from);
                Ok(Stop::Failed(format!("this KVM delivered another exception than vector {nr} at {at}")))
            }
        }
    }
}
