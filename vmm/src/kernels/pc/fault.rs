//! A page fault of the instruction that comes next, as the CPU delivers it: with an error code,
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
        let Some(entry) = self.handler(vector::PF) else {
            return Ok(Stop::Failed("the IDT has no handler for page faults".into()));
        };
        let from = self.rip();
        let state = self.state_mut();
        state.sregs.cr2 = fault.address;
        // A fault's frame has RF set, so that the instruction is not stopped at twice (SDM
        // vol. 3, 17.3.1.1).
        state.regs.rflags |= rflags::RF;
        state.events.exception =
            Exception { injected: 1, nr: vector::PF, has_error_code: 1, pending: 0, error_code: fault.code };
        let stop = self.deliver_to(entry, limit)?;
        if stop != Stop::At(entry) {
            return Ok(stop);
        }
        let frame = self.words::<2>(self.state().regs.rsp);
        match frame == Some([fault.code.into(), from]) && self.state().sregs.cr2 == fault.address {
            true => Ok(stop),
            false => {
                let at = self.symbols.show(from);
                Ok(Stop::Failed(format!("this KVM delivered another page fault than the one at {at}")))
            }
        }
    }
}
