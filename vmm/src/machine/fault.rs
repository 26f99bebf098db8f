//! Bugs of hypervisors, played on purpose by this VMM's own mask and latch.
//!
//! Each was in a real hypervisor and none is in any guest. The oracle must say so,
//! whatever the scheme; that is also how its rules I1 and I2 are tested, which no
//! guest can break.

/// A deliberate defect (`--fault`), shown in replay lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A successful iretq leaves NMIs blocked (KVM 801806d956c2: the emulated IRET)
    IretKeepsBlocked,
    /// NMIs are unblocked before the iretq executes (KVM 0be9c7a89f75: IRET faulted and is run again)
    IretUnblocksEarly,
    /// An NMI at the handler's first instruction collapses into the one just delivered (KVM 7460fb4a3400)
    SecondNmiLost,
    /// Mode pv: an NMI is kept only where one is pending already (Xen eb9ec1a8a8cc: inverted test-and-set)
    InvertedTestAndSet,
    /// An iretq that faults leaves NMIs blocked, whatever --faulting-iret says (Xen 99edc6c2a0f5: faulting ERETU)
    FailedIretLeavesBlocked,
    /// An NMI that arrives at CPL0 while NMIs are open waits for one instruction, which runs with the hypervisor's
    /// TF where the guest can see it (KVM f86368493ec0: pending between two tests)
    NmiWindowSetsTf,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::IretKeepsBlocked,
        Self::IretUnblocksEarly,
        Self::SecondNmiLost,
        Self::InvertedTestAndSet,
        Self::FailedIretLeavesBlocked,
        Self::NmiWindowSetsTf,
    ];

    /// Its name on the command line, in campaigns and in replay lines.
    pub fn name(self) -> &'static str {
        match self {
            Fault::IretKeepsBlocked => "iret-keeps-blocked",
            Fault::IretUnblocksEarly => "iret-unblocks-early",
            Fault::SecondNmiLost => "second-nmi-lost",
            Fault::InvertedTestAndSet => "inverted-test-and-set",
            Fault::FailedIretLeavesBlocked => "failed-iret-leaves-blocked",
            Fault::NmiWindowSetsTf => "nmi-window-sets-tf",
        }
    }

    /// The fault called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        assert!(Fault::ALL.into_iter().all(|fault| Fault::named(fault.name()) == Some(fault)));
    }
}
