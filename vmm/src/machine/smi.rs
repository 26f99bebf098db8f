//! A system management interrupt at a boundary, with a handler that is no business of the guest's and
//! ends by RSM: a real one where this KVM has them, and one that the lab plays elsewhere.

use super::error::Error;
use super::lab::Machine;
use crate::cpu::rflags;

impl Machine {
    /// An SMI comes and goes at this boundary. Where it is played it changes nothing of what the guest
    /// can see; a real one changes what this KVM's RSM does not give back.
    ///
    /// It is played where this KVM has none, and where the guest steps itself by RFLAGS.TF, since KVM
    /// forgets the guest's TF where it steps an instruction itself.
    pub fn smi(&mut self) -> Result<(), Error> {
        if self.quirks.smm && self.state().regs.rflags & rflags::TF == 0 {
            if let Err(exit) = self.vm.take_smi()? {
                return Err(Error::Host(format!("an SMI at {:#x} did not return: {exit:?}", self.rip())));
            }
        } else {
            self.smi_played = true;
        }
        if self.rsm_unblocks() {
            self.set_blocked(false);
        }
        Ok(())
    }

    /// Whether an SMI was played since this was last asked: what this host's KVM does to one is not
    /// known then.
    pub fn take_smi_played(&mut self) -> bool {
        std::mem::take(&mut self.smi_played)
    }
}
