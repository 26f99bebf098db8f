//! Bugs of hypervisors, played on purpose by this VMM's own mask and latch.
//!
//! Each was in a real hypervisor and none is in any guest. The oracle must say so,
//! whatever the scheme; that is also how its rules I1 and I2 are tested, which no
//! guest can break.

use std::fmt;
use std::str::FromStr;

/// A bug of a hypervisor (`--hv-bug`), shown in replay lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HvBug {
    /// A successful iretq leaves NMIs blocked.
    IretKeepsBlocked,
    /// NMIs are unblocked before the iretq executes.
    IretUnblocksEarly,
    /// An NMI at the handler's first instruction collapses into the one just delivered.
    SecondNmiLost,
    /// Mode pv: an NMI is kept only where one is pending already.
    InvertedTestAndSet,
    /// An iretq that faults leaves NMIs blocked, whatever the knob says.
    FailedIretLeavesBlocked,
    /// An NMI that arrives at CPL0 while NMIs are open waits for one instruction, which runs
    /// with the hypervisor's TF where the guest can see it.
    NmiWindowSetsTf,
    /// A delivered NMI stays pending, and is delivered again.
    NmiRedelivered,
    /// NMIs are still open at the handler's first instruction.
    MaskTooLate,
    /// An exit in the middle of a delivery loses the NMI.
    LostInDelivery,
    /// An exit in the middle of a delivery has it made twice: the second frame says that the
    /// handler's first instruction was interrupted.
    DeliveredTwice,
    /// The injection of another event blocks NMIs.
    EventBlocksNmis,
    /// An NMI that is pending at an exit to user space is forgotten, as where a vCPU is saved.
    PendingLostAtExit,
    /// An NMI does not wake a halted CPU, which sleeps until another event comes.
    HaltNotWoken,
    /// RSM unblocks NMIs that were blocked when the SMI came.
    RsmUnblocks,
    /// With virtual NMIs: a pending NMI is taken for NMIs being blocked.
    VnmiPendingReadsBlocked,
}

impl HvBug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::IretKeepsBlocked,
        Self::IretUnblocksEarly,
        Self::SecondNmiLost,
        Self::InvertedTestAndSet,
        Self::FailedIretLeavesBlocked,
        Self::NmiWindowSetsTf,
        Self::NmiRedelivered,
        Self::MaskTooLate,
        Self::LostInDelivery,
        Self::DeliveredTwice,
        Self::EventBlocksNmis,
        Self::PendingLostAtExit,
        Self::HaltNotWoken,
        Self::RsmUnblocks,
        Self::VnmiPendingReadsBlocked,
    ];

    /// Its name on the command line, in campaigns and in replay lines.
    pub fn name(self) -> &'static str {
        match self {
            HvBug::IretKeepsBlocked => "iret-keeps-blocked",
            HvBug::IretUnblocksEarly => "iret-unblocks-early",
            HvBug::SecondNmiLost => "second-nmi-lost",
            HvBug::InvertedTestAndSet => "inverted-test-and-set",
            HvBug::FailedIretLeavesBlocked => "failed-iret-leaves-blocked",
            HvBug::NmiWindowSetsTf => "nmi-window-sets-tf",
            HvBug::NmiRedelivered => "nmi-redelivered",
            HvBug::MaskTooLate => "mask-too-late",
            HvBug::LostInDelivery => "lost-in-delivery",
            HvBug::DeliveredTwice => "delivered-twice",
            HvBug::EventBlocksNmis => "event-blocks-nmis",
            HvBug::PendingLostAtExit => "pending-lost-at-exit",
            HvBug::HaltNotWoken => "halt-not-woken",
            HvBug::RsmUnblocks => "rsm-unblocks",
            HvBug::VnmiPendingReadsBlocked => "vnmi-pending-reads-blocked",
        }
    }

    /// What it does, and where it was, in a line of help.
    pub fn about(self) -> &'static str {
        match self {
            HvBug::IretKeepsBlocked => "A successful iretq leaves NMIs blocked (KVM 801806d956c2: the emulated IRET)",
            HvBug::IretUnblocksEarly => {
                "NMIs are unblocked before the iretq executes (KVM 0be9c7a89f75: IRET faulted and is run again)"
            }
            HvBug::SecondNmiLost => {
                "An NMI at the handler's first instruction collapses into the one just delivered (KVM 7460fb4a3400)"
            }
            HvBug::InvertedTestAndSet => {
                "Mode pv: an NMI is kept only where one is pending already (Xen eb9ec1a8a8cc: inverted test-and-set)"
            }
            HvBug::FailedIretLeavesBlocked => "An iretq that faults leaves NMIs blocked, whatever --faulting-iret says",
            HvBug::NmiWindowSetsTf => {
                "An NMI that arrives at CPL0 while NMIs are open waits for one instruction, which runs with the \
                 hypervisor's TF where the guest can see it (KVM f86368493ec0: pending between two tests)"
            }
            HvBug::NmiRedelivered => "A delivered NMI stays pending, and is delivered again",
            HvBug::MaskTooLate => "NMIs are still open at the handler's first instruction (Bochs issue 211)",
            HvBug::LostInDelivery => "An exit in the middle of a delivery loses the NMI",
            HvBug::DeliveredTwice => {
                "An exit in the middle of a delivery has it made twice: the second frame says that the handler's first \
                 instruction was interrupted"
            }
            HvBug::EventBlocksNmis => "The injection of another event (mce@, irq@, db@) blocks NMIs",
            HvBug::PendingLostAtExit => {
                "An NMI that is pending at an exit to user space is forgotten, as where a vCPU is saved (Linux ab2ee212a57b)"
            }
            HvBug::HaltNotWoken => {
                "An NMI does not wake a halted CPU, and is lost (acrn-hypervisor 4621, openvmm 3511)"
            }
            HvBug::RsmUnblocks => "RSM unblocks NMIs that were blocked when the SMI came (smi@)",
            HvBug::VnmiPendingReadsBlocked => {
                "With virtual NMIs a pending NMI is taken for NMIs being blocked, and stays pending after the iretq"
            }
        }
    }
}

impl fmt::Display for HvBug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no such bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown hypervisor bug {0:?}; expected {names}", names = HvBug::ALL.map(HvBug::name).join(", "))]
pub struct UnknownHvBug(String);

impl FromStr for HvBug {
    type Err = UnknownHvBug;

    fn from_str(text: &str) -> Result<Self, UnknownHvBug> {
        Self::ALL.into_iter().find(|bug| bug.name() == text).ok_or_else(|| UnknownHvBug(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_has_one_name_everywhere() {
        for bug in HvBug::ALL {
            assert_eq!(bug.to_string().parse(), Ok(bug));
            assert_eq!(serde_json::to_string(&bug).unwrap(), format!("\"{bug}\""));
        }
        assert!("fault".parse::<HvBug>().is_err());
    }
}
