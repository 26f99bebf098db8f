//! Puts an NMI in front of the vCPU, and takes it to its handler.

use super::error::Error;
use super::hv_bug::HvBug;
use super::lab::Machine;
use super::memory::GuestMemoryMut;
use super::predictor::Engine;
use super::pv::{Delivery, Outcome};
use super::stop::Stop;
use crate::cpu::Exception;
use crate::image::manifest::Mode;
use crate::kvm::{self, Vm};

/// The first vector that is no exception's (SDM vol. 3, 6.2).
const FIRST_INTERRUPT: u8 = 32;

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
        self.latched = self.knobs.hv_bug == Some(HvBug::NmiRedelivered);
        if self.engine() == Engine::Model
            && let Some(stop) = self.predict_nmi()?
        {
            return Ok(stop);
        }
        let stop = match self.knobs.hv_bug {
            Some(HvBug::LostInDelivery) => return Ok(Stop::Lost),
            _ if self.oversleeps() => return Ok(Stop::Lost),
            Some(HvBug::DeliveredTwice) => {
                self.deliver_here(raise)?;
                self.vm.state_mut().events.nmi.masked = 0;
                self.deliver_here(raise)?
            }
            _ => self.deliver_here(raise)?,
        };
        if self.knobs.hv_bug == Some(HvBug::MaskTooLate) {
            self.vm.state_mut().events.nmi.masked = 0;
        }
        Ok(stop)
    }

    /// Has KVM deliver an NMI at this boundary.
    fn deliver_here(&mut self, raise: Raise) -> Result<Stop, Error> {
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

    /// Delivers an event from outside at this boundary that is no NMI (a machine check, an
    /// interrupt): the vCPU then stands at the first instruction of `vector`'s handler. It leaves
    /// the NMI mask alone.
    pub fn deliver_external(&mut self, vector: u8) -> Result<Stop, Error> {
        if self.engine() == Engine::Model
            && let Some(stop) = self.predict_external(vector)?
        {
            return Ok(stop);
        }
        let from = self.rip();
        let events = &mut self.vm.state_mut().events;
        events.interrupt.shadow = 0;
        if vector < FIRST_INTERRUPT {
            let of = Exception { injected: 1, nr: vector, ..Exception::default() };
            events.exception = of;
        } else {
            (events.interrupt.injected, events.interrupt.nr, events.interrupt.soft) = (1, vector, 0);
        }
        // A stop at `from` itself would prove that it came late.
        self.patch(from);
        self.patch_handlers();
        let stop = self.resume_patched()?;
        if stop == Stop::Boundary && self.rip() == from && self.idt.vector_of(from) != Some(vector) {
            return Err(Error::Host(format!("vector {vector} was not delivered at {}", self.place(from))));
        }
        if self.knobs.hv_bug == Some(HvBug::EventBlocksNmis) {
            self.vm.state_mut().events.nmi.masked = 1;
        }
        Ok(stop)
    }
}
