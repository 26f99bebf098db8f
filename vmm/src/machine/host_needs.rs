//! What not every host's KVM has, and a scenario cannot be shown without.

use super::declare::Scenario;
use crate::kvm::Quirks;

/// What a scenario cannot be shown without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Returns to a 16-bit stack segment of an LDT, which do not give back bits 31:16 of RSP.
    LdtSs16,
}

impl Need {
    /// The one that a manifest calls `name`.
    pub fn of(name: &str) -> Option<Self> {
        (name == "ldt-ss16").then_some(Need::LdtSs16)
    }
}

impl Scenario {
    /// Why a host with these quirks cannot show it.
    pub fn not_shown(&self, quirks: Quirks) -> Option<&'static str> {
        self.needs.iter().find_map(|need| match need {
            Need::LdtSs16 if quirks.no_ldt_ss16 => Some(
                "here an iretq to a 16-bit stack segment of an LDT faults, or gives back all of RSP \
                 (vmm probe --only ring3-iretq-ldt --only ring3-iretq-ldt-rsp); scripts/hosts/svm runs the \
                 same command line on an emulated machine",
            ),
            Need::LdtSs16 => None,
        })
    }
}
