//! How long an NMI takes on this host, in a free run.

use std::time::{Duration, Instant};

use guest::abi;

use super::error::Error;
use super::lab::Machine;
use super::memory::GuestMemoryMut;
use super::pv::{Delivery, Outcome};
use super::stop::Stop;
use crate::image::manifest::Mode;

impl Machine {
    /// Delivers an NMI at this boundary and runs freely until execution stands here
    /// again. `None` where it does not come back. The NMI's own code must not come
    /// through this address.
    ///
    /// What is timed is the same for every scheme: the first entry into the guest, the
    /// exits of the body's two marks, the exit of the stop at the end; and what the
    /// scheme adds: its instructions, and its hypercalls.
    pub fn time_nmi(&mut self) -> Result<Option<Duration>, Error> {
        let (rip, rsp) = (self.rip(), self.state().regs.rsp);
        let began = Instant::now();
        match self.mode() {
            Mode::Native => self.vm.state_mut().events.nmi.pending = 1,
            Mode::Pv => {
                let mut state = *self.vm.state();
                let delivered = self.pv.deliver(&mut state, &mut GuestMemoryMut(self.vm.ram_mut()));
                if delivered != Delivery::Entered {
                    return Ok(None);
                }
                *self.vm.state_mut() = state;
            }
        }
        loop {
            self.patch(rip);
            match self.resume_patched()? {
                Stop::Boundary if (self.rip(), self.state().regs.rsp) == (rip, rsp) => {
                    return Ok(Some(began.elapsed()));
                }
                Stop::Hypercall(abi::PORT_BODY_BEGIN | abi::PORT_BODY_END) => {}
                Stop::Pv(Outcome::Resumed { .. }) => {}
                _ => return Ok(None),
            }
        }
    }
}
