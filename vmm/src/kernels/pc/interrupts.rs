//! Interrupts on their way to the CPU: from the 8259s, which the local APIC lets through, and from
//! the local APIC itself.

use super::apic::{ENABLED, Sent};
use super::{Pc, Stop};
use crate::cpu::rflags;

/// Bits of IA32_APIC_BASE that say where the APIC's registers are.
const BASE: u64 = 0xf_ffff_f000;

impl Pc {
    /// Whether there is a local APIC, and it is on (IA32_APIC_BASE).
    fn apic_is_on(&self) -> bool {
        self.devices.apic.is_some() && self.state().sregs.apic_base & ENABLED != 0
    }

    /// The vector that the CPU may take, and whether it is the local APIC's. Where `own`, only
    /// what the guest sent itself.
    fn interrupt_due(&mut self, own: bool) -> Option<(Option<u8>, bool)> {
        let (on, cr8) = (self.apic_is_on(), self.state().sregs.cr8);
        let apic = self.devices.apic.as_mut().filter(|_| on);
        let passes = apic.as_ref().is_none_or(|apic| apic.passes_pic());
        if !own && passes && self.devices.pics.ready() {
            return Some((None, false));
        }
        let apic = apic?;
        apic.set_cr8(cr8);
        apic.ready(own).map(|vector| (Some(vector), true))
    }

    /// The CPU takes an interrupt, if one is due, where it can. Returns its vector.
    pub(super) fn offer(&mut self, own: bool) -> Option<u8> {
        let window = self.devices.apic.is_some();
        let due = self.interrupt_due(own);
        let (Some(due), false) = (due, self.holds_interrupts()) else {
            // It comes as soon as it can, also in the midst of a run.
            if window {
                self.vm.want_interrupt_window(due.is_some());
            }
            return None;
        };
        let vector = match due {
            (Some(vector), _) => {
                if let Some(apic) = &mut self.devices.apic {
                    apic.acknowledge(vector);
                }
                Some(vector)
            }
            (None, _) => self.devices.pics.acknowledge(),
        };
        if let Some(vector) = vector {
            let interrupt = &mut self.vm.state_mut().events.interrupt;
            (interrupt.injected, interrupt.nr, interrupt.soft) = (1, vector, 0);
        }
        if window {
            let more = self.interrupt_due(own).is_some();
            self.vm.want_interrupt_window(more);
        }
        vector
    }

    /// Whether the CPU takes no interrupt here.
    fn holds_interrupts(&self) -> bool {
        let state = self.state();
        let events = &state.events;
        events.interrupt.injected != 0
            || events.interrupt.shadow != 0
            || events.exception.injected != 0
            || events.exception.pending != 0
            || events.nmi.injected != 0
            || events.nmi.pending != 0
            || state.regs.rflags & rflags::IF == 0
    }

    /// An access to memory that is not there: the local APIC's registers, or nothing, which reads
    /// as ones.
    pub(super) fn access(&mut self, addr: u64, write: Option<u64>) -> Result<Option<Stop>, super::Error> {
        let (now, base) = (self.now(), self.state().sregs.apic_base & BASE);
        let (on, cr8) = (self.apic_is_on(), self.state().sregs.cr8);
        let offset = addr.wrapping_sub(base);
        let Some(apic) = self.devices.apic.as_mut().filter(|_| on && offset < 0x1000) else {
            self.vm.answer_read(u64::MAX)?;
            return Ok(None);
        };
        apic.set_cr8(cr8);
        apic.fire(now);
        let Some(value) = write else {
            let value = apic.read(offset, now).into();
            self.vm.answer_read(value)?;
            return Ok(None);
        };
        let sent = apic.write(offset, value as u32, now);
        let cr8 = apic.cr8();
        // Completes the write, so that nothing is left to do when state is loaded.
        self.vm.answer_read(0)?;
        let state = self.vm.state_mut();
        state.sregs.cr8 = cr8;
        Ok(match sent {
            None => None,
            Some(Sent::Nmi) => {
                self.vm.pend_nmi()?;
                None
            }
            Some(Sent::Init) => Some(Stop::Reset),
        })
    }
}
