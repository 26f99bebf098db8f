//! What a probe is, and what it answers.

use super::bench::Fail;
use crate::kvm::Host;

/// One property of a host's KVM and how it is measured.
pub struct Probe {
    /// Short name, for `--only` and for code that asks.
    pub id: &'static str,
    /// What is measured.
    pub property: &'static str,
    /// What the architecture (or KVM's API) says. Where it leaves a choice, several
    /// answers.
    pub right: &'static [&'static str],
    /// Where it says so.
    pub source: &'static str,
    /// What the lab does about it.
    pub lab: &'static str,
    /// Runs the small guest, and says what this host did.
    pub measure: fn(&Host) -> Result<Answer, Fail>,
}

/// What a host answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer: the same at every run on one host.
    pub text: String,
    /// Numbers behind it, which may differ from run to run.
    pub detail: Option<String>,
}

impl Answer {
    /// An answer with the numbers behind it.
    pub fn with(text: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { text: text.into(), detail: Some(detail.into()) }
    }
}

impl<T: Into<String>> From<T> for Answer {
    fn from(text: T) -> Self {
        Self { text: text.into(), detail: None }
    }
}

/// `right` of a property on which hosts may differ.
pub const ANY: &[&str] = &[];

/// Sources, by the titles that outlive the manuals' renumbering.
pub mod source {
    pub const NMI: &str = "SDM vol. 3, 6.7 Nonmaskable Interrupt";
    pub const MULTIPLE_NMIS: &str = "SDM vol. 3, 6.7.1 Handling Multiple NMIs";
    pub const SHADOW: &str = "SDM vol. 3, 6.8.3 Masking Exceptions and Interrupts When Switching Stacks";
    pub const STI: &str = "SDM vol. 2, STI; APM vol. 2, 15.21.5 Interrupt Shadows";
    pub const IRET: &str = "SDM vol. 2, IRET; vol. 3, 6.7.1";
    /// The manuals do not say it.
    pub const ESPFIX: &str = "Linux, arch/x86/kernel/espfix_64.c";
    pub const DELIVERY: &str = "SDM vol. 3, 7.12.1.3 Flag Usage By Exception- or Interrupt-Handler Procedure";
    pub const TRAP_FLAG: &str = "SDM vol. 3, 17.3.1.4 Single-Step Exception Condition";
    pub const BREAKPOINT: &str = "SDM vol. 3, 17.3.1.1 Instruction-Breakpoint Exception Condition";
    pub const DEBUG_API: &str = "KVM API, KVM_SET_GUEST_DEBUG";
    pub const EVENTS_API: &str = "KVM API, KVM_SET_VCPU_EVENTS";
    pub const RUN_API: &str = "KVM API, the kvm_run structure";
    pub const NMI_COUNT: &str = "SDM vol. 3, 6.7.1; KVM's process_nmi(): one running and one pending after it";
    pub const INT: &str = "SDM vol. 2, INT n/INTO/INT3/INT1";
    pub const SYSCALL: &str = "SDM vol. 2, SYSCALL";
    pub const SYSRET: &str = "SDM vol. 2, SYSRET";
    pub const EXCEPTIONS: &str = "SDM vol. 3, 6.15 Exception and Interrupt Reference";
}
