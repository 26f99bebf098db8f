//! What ends a run whatever state it is in: a stop that no running guest may come to.

use super::invariant::Invariant;
use super::judge::Oracle;
use super::verdict::Verdict;
use crate::machine::Machine;

impl Oracle {
    /// The guest reported by the panic hypercall that it cannot go on (I18).
    pub fn panicked(&mut self, machine: &Machine) {
        self.breaks(Invariant::NoFault, |_| format!("the guest panicked: {}", machine.panic_message()));
    }

    /// The guest made a hypercall that is for its boot only, or is none at all (I18).
    pub fn called(&mut self, port: u8) {
        self.breaks(Invariant::NoFault, |_| format!("hypercall {port:#x} is not one that a running guest may make"));
    }

    /// The guest executed a HLT of its own: no interrupt but an NMI could wake it (I18).
    pub fn halted(&mut self, machine: &Machine) {
        let at = machine.rip();
        self.breaks(Invariant::NoFault, |r| format!("the guest halted at {}", r.names().show(at)));
    }

    /// A triple fault, or what a hypervisor kills its guest for.
    pub fn shut_down(&mut self, detail: impl Into<String>) {
        self.conclude(Verdict::Shutdown { detail: detail.into() });
    }

    /// This KVM cannot go on, or not as the architecture says.
    pub fn limited(&mut self, why: impl Into<String>) {
        self.conclude(Verdict::HostLimit { why: why.into() });
    }
}
