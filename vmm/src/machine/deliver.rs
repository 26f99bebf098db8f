//! Puts an NMI in front of the vCPU, and takes it to its handler.

use super::error::Error;
use super::lab::Machine;
use super::memory::GuestMemoryMut;
use super::predictor::Engine;
use super::pv::{Delivery, Outcome};
use super::stop::Stop;
use crate::image::manifest::Mode;
use crate::kvm::{self, Vm};

/// How an NMI is put in front of the vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    /// By the KVM_NMI ioctl, as a device would.
    Ioctl,
    /// Pending in the vCPU events, loaded with the registers.
    Events,
}

impl Raise {
    /// Puts an NMI in front of this vCPU.
    pub fn on(self, vm: &mut Vm) -> Result<(), kvm::Error> {
        match self {
            Raise::Ioctl => vm.raise_nmi(),
            Raise::Events => vm.pend_nmi(),
        }
    }
}

impl Machine {
    /// Delivers the latched NMI at this boundary: the vCPU then stands at its
    /// handler's first instruction.
    pub fn deliver(&mut self, raise: Raise) -> Result<Stop, Error> {
        if self.mode == Mode::Pv {
            let mut state = *self.vm.state();
            let before = state;
            let delivered = self.pv.deliver(&mut state, &mut GuestMemoryMut(self.vm.ram_mut()));
            *self.vm.state_mut() = state;
            if delivered == Delivery::Entered {
                self.note_frame();
            }
            if self.engine() == Engine::Model {
                self.trace_delivery(&before);
            }
            return Ok(match delivered {
                Delivery::Entered => Stop::Boundary,
                Delivery::Lost => Stop::Lost,
                Delivery::Crashed(why) => Stop::Pv(Outcome::Crashed(why)),
            });
        }
        self.latched = false;
        if self.engine() == Engine::Model
            && let Some(stop) = self.predict_nmi()?
        {
            return Ok(stop);
        }
        let from = self.rip();
        raise.on(&mut self.vm)?;
        // A stop at `from` itself would prove that the NMI came late.
        self.patch(from);
        self.patch_handlers();
        let stop = self.resume_patched()?;
        let nmi = self.state().events.nmi;
        if stop == Stop::Boundary && self.rip() == from && (nmi.masked == 0 || nmi.pending != 0) {
            return Err(Error::Host(format!("an NMI raised at {} was not delivered there", self.place(from))));
        }
        Ok(stop)
    }

    /// Lets an NMI come and go in one run: delivers it at this boundary and runs until
    /// execution stands here again. `false` where it stopped elsewhere, or came back
    /// with another stack pointer or with NMIs blocked.
    pub fn deliver_and_return(&mut self) -> Result<bool, Error> {
        let before = self.vm.state().regs;
        self.latched = false;
        Raise::Events.on(&mut self.vm)?;
        self.patch(before.rip);
        self.patch_handlers_but_nmi();
        let stop = self.resume_patched()?;
        let state = self.vm.state();
        let nmi = state.events.nmi;
        let back = (state.regs.rip, state.regs.rsp) == (before.rip, before.rsp);
        Ok(stop == Stop::Boundary && back && nmi.masked == 0 && nmi.pending == 0)
    }
}
