//! What a vCPU holds between two runs, as the lab carries it.

use kvm_bindings::{KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW, kvm_sync_regs, kvm_vcpu_events};

use crate::cpu::{Cpu, Events, Lazy, LazyId, Regs, Sregs};

/// Registers, system registers and events of a vCPU, which the sync-regs area holds,
/// and one register that it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VcpuState {
    /// General registers, RIP, RFLAGS.
    pub regs: Regs,
    /// Segments, tables, control registers.
    pub sregs: Sregs,
    /// Events pending, injected, masked.
    pub events: Events,
    /// IA32_KERNEL_GS_BASE, where it is carried: see [`super::Vm::carry_kernel_gs`].
    pub kernel_gs: u64,
    /// Debug, vector and model-specific registers, where they are carried: see
    /// [`super::Vm::carry_lazy`].
    pub lazy: LazyId,
    /// [`Cpu::undefined`], where the model executed the last instruction; 0 where KVM did, which
    /// has decided. It is none of the CPU's state, and no state differs by it.
    pub undefined: u64,
}

impl VcpuState {
    /// The same state as the model of the CPU has it. `lazy` is what [`Self::lazy`] stands for.
    pub fn cpu(&self, lazy: &Lazy) -> Cpu {
        Cpu {
            regs: self.regs,
            sregs: self.sregs,
            events: self.events,
            kernel_gs: self.kernel_gs,
            debug: lazy.debug,
            msrs: lazy.msrs,
            undefined: self.undefined,
        }
    }

    pub(super) fn store(&self, area: &mut kvm_sync_regs) {
        (area.regs, area.sregs) = (self.regs.into(), self.sregs.into());
        area.events = loaded(self.events);
    }

    pub(super) fn load(&mut self, area: &kvm_sync_regs) {
        (self.regs, self.sregs, self.events) = (area.regs.into(), area.sregs.into(), area.events.into());
    }
}

/// Events as they are loaded: a pending NMI and the shadow are theirs to say.
pub(super) fn loaded(events: Events) -> kvm_vcpu_events {
    kvm_vcpu_events { flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW, ..events.into() }
}

/// How the register is carried between the vCPU and [`VcpuState`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum KernelGs {
    /// It is left to the vCPU.
    #[default]
    Left,
    /// It is read after a run.
    Carried {
        /// What the vCPU has.
        loaded: u64,
        /// The base of GS while nothing is swapped; `None`: it is swapped all the time.
        home: Option<u64>,
        /// The run under way began swapped.
        away: bool,
    },
}
