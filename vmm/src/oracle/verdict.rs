//! What a run is judged to be.

use std::fmt;

/// The rules a run is held to, with the numbers that README and reports use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Invariant {
    /// Latch: an arrival is delivered at the first permitted boundary, or kept.
    I1,
    /// Block: what blocks and unblocks NMIs is what the model says.
    I2,
    /// Service: for each arrival a body run begins at or after it.
    I3,
    /// Bound: no more body runs than deliveries.
    I4,
    /// No re-entry: one body at a time.
    I5,
    /// Context: every register is what it was at the interruption.
    I6,
    /// Memory: nothing outside declared scratch changes.
    I7,
    /// Provenance: iret consumes only frames that were delivered or declared.
    I8,
    /// Stack: RSP stays in declared stacks.
    I9,
    /// GS: the body runs on the kernel's GS base, and it is put back.
    I10,
    /// CR3: the body runs on a kernel CR3, and the entry's is put back.
    I11,
    /// At rest: after the outermost return nothing is blocked, flagged or poisoned.
    I12,
    /// "Executing" is set only while an outermost NMI is live.
    I13,
    /// Handler view: the body is shown the outermost interrupted context.
    I14,
    /// Privilege: never CPL0 at a user's RIP, no nested path for CPL3 frames.
    I15,
    /// Traps: #DB and #GP in the interrupted code are those of the golden run.
    I16,
    /// Progress: finitely many arrivals, then the end.
    I17,
    /// No triple fault, no undeclared fault in entry or exit code.
    I18,
    /// Atomicity: a failed return leaves mask, latch and frame as the model says.
    I19,
    /// Coverage.
    I20,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The judgement on one run, or on a set of runs by its worst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule was broken, and the scenario ended.
    Pass,
    /// A rule was broken.
    Violation {
        /// Which.
        invariant: Invariant,
        /// How, in one line.
        detail: String,
    },
    /// The machine came back to a state it had been in, with nothing left to arrive.
    Livelock {
        /// Where it goes round.
        detail: String,
    },
    /// Triple fault.
    Shutdown {
        /// Where.
        detail: String,
    },
    /// This KVM cannot show it.
    HostLimit {
        /// Why not.
        why: String,
    },
}

impl Verdict {
    /// The word that reports, campaigns and JSON use.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Violation { .. } => "violation",
            Verdict::Livelock { .. } => "livelock",
            Verdict::Shutdown { .. } => "shutdown",
            Verdict::HostLimit { .. } => "host-limit",
        }
    }

    /// The rule that was broken. A livelock breaks I17, a triple fault I18.
    pub fn invariant(&self) -> Option<Invariant> {
        match self {
            Verdict::Pass | Verdict::HostLimit { .. } => None,
            Verdict::Violation { invariant, .. } => Some(*invariant),
            Verdict::Livelock { .. } => Some(Invariant::I17),
            Verdict::Shutdown { .. } => Some(Invariant::I18),
        }
    }

    /// The line of detail, empty for a pass.
    pub fn detail(&self) -> &str {
        match self {
            Verdict::Pass => "",
            Verdict::Violation { detail, .. } | Verdict::Livelock { detail } | Verdict::Shutdown { detail } => detail,
            Verdict::HostLimit { why } => why,
        }
    }

    /// Whether the run survived.
    pub fn is_pass(&self) -> bool {
        *self == Verdict::Pass
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Pass => f.write_str("pass"),
            Verdict::Violation { invariant, detail } => write!(f, "violation({invariant}: {detail})"),
            other => write!(f, "{}({})", other.word(), other.detail()),
        }
    }
}
