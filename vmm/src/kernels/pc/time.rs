//! Time: CPU time while the kernel boots, so that a busy host does not have the kernel handle more
//! timer interrupts than it has time for; a time that stands still while cases run. Both go on at
//! once to the next interrupt where the CPU is idle.

use super::pit::Nanos;
use super::{Pc, Stop, cpu_time};
use crate::cpu::rflags;

impl Pc {
    pub(super) fn now(&self) -> Nanos {
        self.frozen.unwrap_or_else(|| {
            // Limits say so where the host has no such clock.
            let spent = cpu_time::now().unwrap_or_default().saturating_sub(self.started);
            spent.as_nanos() as Nanos + self.idled
        })
    }

    /// Device time stands still from here on.
    pub(super) fn freeze(&mut self) {
        self.frozen = Some(self.now());
        if let Some(apic) = &mut self.devices.apic {
            apic.freeze();
        }
    }

    /// The kernel's own HLT.
    pub(super) fn idle(&mut self) -> Option<Stop> {
        if self.state().regs.rflags & rflags::IF == 0 {
            return Some(Stop::Dead);
        }
        if self.stop_at_idle {
            return Some(Stop::Idle);
        }
        self.wake();
        let woken = self.frozen.is_none() || self.state().events.interrupt.injected != 0;
        (!woken).then_some(Stop::Idle)
    }

    /// Time goes on to the next interrupt, which the idle CPU takes.
    fn wake(&mut self) {
        let now = self.now();
        let timers = [self.devices.pit.due(), self.devices.apic.as_ref().and_then(|apic| apic.due())];
        if let Some(due) = timers.into_iter().flatten().min().filter(|due| *due > now) {
            match &mut self.frozen {
                Some(frozen) => {
                    *frozen = due;
                    self.advance_clock(due - now);
                }
                None => self.idled += due - now,
            }
        }
        self.tick();
    }

    /// Lets the timers fire, and the CPU take an interrupt where it can.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        if self.devices.pit.fire(now) {
            self.devices.pics.raise(0);
        }
        if let Some(apic) = &mut self.devices.apic {
            apic.fire(now);
        }
        self.offer(false);
    }
}
