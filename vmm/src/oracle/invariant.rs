//! The rules that a run is held to: each with its number, its name, and what it means that it broke.

use std::fmt;
use std::str::FromStr;

/// A rule that a run is held to. It prints as the number that reports, campaigns and
/// documents use: [`Invariant::NoReentry`] is `I5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Invariant {
    /// I1: an arrival is delivered at the first boundary that permits it, or kept.
    Latch,
    /// I2: NMIs are blocked and unblocked by what the model says, and by nothing else.
    Block,
    /// I3: for each arrival a body run begins at or after it.
    Service,
    /// I4: there are no more body runs than deliveries.
    Bound,
    /// I5: one body runs at a time.
    NoReentry,
    /// I6: at resume every register is what it was at the interruption.
    Context,
    /// I7: no memory outside declared scratch changes, nor does what the work computes.
    Memory,
    /// I8: a return consumes only frames that were delivered or declared.
    Provenance,
    /// I9: RSP stays in the declared stacks.
    Stack,
    /// I10: the body runs on the kernel's GS base.
    Gs,
    /// I11: the body runs on a kernel's page table.
    Cr3,
    /// I12: after the outermost return nothing is blocked, flagged or poisoned.
    AtRest,
    /// I13: what says that an NMI is live is set only while one is.
    Flagged,
    /// I14: the body is shown the outermost interrupted context.
    View,
    /// I15: CPL0 never executes user code, and no NMI from CPL3 is taken for a nested one.
    Privilege,
    /// I16: the interrupted code takes the #DBs and #GPs of the golden run.
    Traps,
    /// I17: where nothing more arrives, the run ends.
    Progress,
    /// I18: no triple fault, no panic, no fault in entry or exit code that is not declared.
    NoFault,
    /// I19: a return that fails leaves mask, latch and frame as the model says.
    Atomicity,
    /// I20: every boundary is injected in every kind of context, or shown unreachable.
    Coverage,
    /// I21: a body begins with the flags and the stack that it may rely on.
    BodyEnvironment,
}

impl Invariant {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Latch,
        Self::Block,
        Self::Service,
        Self::Bound,
        Self::NoReentry,
        Self::Context,
        Self::Memory,
        Self::Provenance,
        Self::Stack,
        Self::Gs,
        Self::Cr3,
        Self::AtRest,
        Self::Flagged,
        Self::View,
        Self::Privilege,
        Self::Traps,
        Self::Progress,
        Self::NoFault,
        Self::Atomicity,
        Self::Coverage,
        Self::BodyEnvironment,
    ];

    /// Whether it is about every boundary, so that a run that stops at few of them may miss
    /// where it is broken.
    pub fn holds_at_every_boundary(self) -> bool {
        matches!(self, Self::Latch | Self::Block | Self::Provenance | Self::Stack | Self::Privilege)
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latch => "latch",
            Self::Block => "block",
            Self::Service => "service",
            Self::Bound => "bound",
            Self::NoReentry => "no re-entry",
            Self::Context => "context",
            Self::Memory => "memory",
            Self::Provenance => "provenance of frames",
            Self::Stack => "stack",
            Self::Gs => "GS",
            Self::Cr3 => "CR3",
            Self::AtRest => "at rest",
            Self::Flagged => "executing",
            Self::View => "handler's view",
            Self::Privilege => "privilege",
            Self::Traps => "traps",
            Self::Progress => "progress",
            Self::NoFault => "no undeclared fault",
            Self::Atomicity => "atomic return",
            Self::Coverage => "coverage",
            Self::BodyEnvironment => "body's environment",
        }
    }

    /// What happened where it was broken, as a clause.
    pub fn broke(self) -> &'static str {
        match self {
            Self::Latch => "an NMI that arrived was neither delivered at the first boundary that permits it nor kept",
            Self::Block => "NMIs are blocked where the model has them open, or open where it has them blocked",
            Self::Service => "an NMI arrived, and no run of the body began at or after it: the event is lost",
            Self::Bound => "the body ran more often than NMIs were delivered",
            Self::NoReentry => "the body began again before an earlier run of it had ended",
            Self::Context => "the interrupted code did not get its registers back as they were",
            Self::Memory => "memory that is nobody's scratch is not as it was without NMIs",
            Self::Provenance => "an iret consumed a frame that nobody delivered or declared",
            Self::Stack => "RSP left the declared stacks",
            Self::Gs => "the body ran on another GS base than the kernel's, or the interrupted one was not put back",
            Self::Cr3 => "the body ran on another CR3 than a kernel's, or the entry's was not put back",
            Self::AtRest => {
                "after the outermost return something is left behind: a blocked NMI, a flag or a poisoned word"
            }
            Self::Flagged => "the word that says \"an NMI is executing\" is set where no outermost NMI is live",
            Self::View => "the body was shown another context than the one that the outermost NMI interrupted",
            Self::Privilege => {
                "kernel privilege was kept at a user's RIP, or a user's frame took the path of nested NMIs"
            }
            Self::Traps => "the interrupted code took other #DB or #GP traps than it does without NMIs",
            Self::Progress => "nothing is left to arrive, and the run goes round for ever",
            Self::NoFault => "entry or exit code took a fault that it does not declare, or the CPU shut down",
            Self::Atomicity => "a return that failed did not leave mask, latch and frame as the model says",
            Self::Coverage => "a boundary was left uncovered",
            Self::BodyEnvironment => "the body began with a flag, a stack or a page table that it may not rely on",
        }
    }

    /// Its number, from 1.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("I{}", self.number()))
    }
}

/// A text that names no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown invariant {0:?}; expected I1 to I{count}", count = Invariant::ALL.len())]
pub struct UnknownInvariant(String);

impl FromStr for Invariant {
    type Err = UnknownInvariant;

    fn from_str(text: &str) -> Result<Self, UnknownInvariant> {
        Self::ALL.into_iter().find(|i| i.to_string() == text).ok_or_else(|| UnknownInvariant(text.to_owned()))
    }
}

impl From<Invariant> for String {
    fn from(invariant: Invariant) -> Self {
        invariant.to_string()
    }
}

impl TryFrom<String> for Invariant {
    type Error = UnknownInvariant;

    fn try_from(text: String) -> Result<Self, UnknownInvariant> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for (i, invariant) in Invariant::ALL.into_iter().enumerate() {
            assert_eq!(invariant.to_string(), format!("I{}", i + 1));
            assert_eq!(invariant.to_string().parse(), Ok(invariant));
            let json = serde_json::to_string(&invariant).unwrap();
            assert_eq!(json, format!("\"{invariant}\""));
            assert_eq!(serde_json::from_str::<Invariant>(&json).unwrap(), invariant);
        }
        for text in ["", "I", "I0", "I05", "5", "i5", "I99", "NoReentry"] {
            assert!(text.parse::<Invariant>().is_err(), "{text}");
        }
    }
}
