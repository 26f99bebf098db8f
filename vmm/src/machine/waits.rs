//! HLTs at which a guest waits for an event, by what its scenario declares (`halts=`).
//!
//! A halted CPU goes on after the HLT by any event that is not masked (SDM vol. 2, HLT), an NMI or an
//! SMI among them. The lab lets none wait: without an NMI one wakes the CPU at once that leaves no
//! trace, so the guest must ask for what it waits for again. An NMI that comes at the boundary after
//! the HLT is the one that woke it.

use super::hv_bug::HvBug;
use super::lab::Machine;
use super::stop::Stop;

/// Bytes of a HLT.
const HLT_BYTES: u64 = 1;

impl Machine {
    /// Whether the CPU is about to wait.
    pub(super) fn waits(&self) -> bool {
        self.halts.contains(&self.rip())
    }

    /// It waits, and is woken.
    pub(super) fn wake(&mut self) -> Stop {
        let state = self.vm.state_mut();
        state.regs.rip = state.regs.rip.wrapping_add(HLT_BYTES);
        state.regs.rflags &= !crate::cpu::rflags::RF;
        state.events.interrupt.shadow = 0;
        Stop::Boundary
    }

    /// Whether it has just been woken.
    pub(super) fn woke(&self) -> bool {
        self.halts.contains(&self.rip().wrapping_sub(HLT_BYTES))
    }

    /// Whether this hypervisor leaves it asleep when the NMI comes that is about to be delivered.
    pub(super) fn oversleeps(&self) -> bool {
        self.knobs.hv_bug == Some(HvBug::HaltNotWoken) && self.woke()
    }
}
