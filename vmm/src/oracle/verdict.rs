//! What a run is judged to be.

use std::fmt;

use super::invariant::Invariant;

/// What a verdict is, without its rule and detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// No rule was broken.
    Pass,
    /// A rule was broken.
    Violation,
    /// The run goes round for ever.
    Livelock,
    /// A triple fault, or what a hypervisor kills its guest for.
    Shutdown,
    /// This KVM cannot show it.
    HostLimit,
}

impl Word {
    /// All of them.
    pub const ALL: [Word; 5] = [Word::Pass, Word::Violation, Word::Livelock, Word::Shutdown, Word::HostLimit];

    /// As reports, campaigns and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Pass => "pass",
            Word::Violation => "violation",
            Word::Livelock => "livelock",
            Word::Shutdown => "shutdown",
            Word::HostLimit => "host-limit",
        }
    }
}

/// What two verdicts must have in common to be the same judgement: the word, and the rule
/// that was broken. Where it was broken, and how, may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct VerdictKind {
    /// What the verdict is.
    pub verdict: Word,
    /// The rule that was broken.
    pub invariant: Option<Invariant>,
}

impl VerdictKind {
    /// That of a run that survived.
    pub const PASS: Self = Self { verdict: Word::Pass, invariant: None };
}

impl fmt::Display for VerdictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.verdict.as_str();
        match self.invariant.filter(|_| self.verdict == Word::Violation) {
            Some(invariant) => f.pad(&format!("{word}({invariant})")),
            None => f.pad(word),
        }
    }
}

/// The judgement on one run, or on a set of runs by its worst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule was broken, and the scenario ended.
    Pass,
    /// A rule was broken.
    Violation {
        /// The rule.
        invariant: Invariant,
        /// How it was broken, in one line.
        detail: String,
    },
    /// The machine came back to a state it had been in, with nothing left to arrive.
    Livelock {
        /// Where it goes round.
        detail: String,
    },
    /// A triple fault, or what a hypervisor kills its guest for.
    Shutdown {
        /// What happened.
        detail: String,
    },
    /// This KVM cannot show it.
    HostLimit {
        /// What this KVM lacks, or does otherwise.
        why: String,
    },
}

impl Verdict {
    /// A rule was broken, as `detail` says in one line.
    pub fn breaks(invariant: Invariant, detail: impl Into<String>) -> Self {
        Verdict::Violation { invariant, detail: detail.into() }
    }

    /// The word that reports, campaigns and JSON use. To compare verdicts, take
    /// [`Verdict::kind`].
    pub fn word(&self) -> &'static str {
        self.kind().verdict.as_str()
    }

    /// What it is, and the rule that was broken.
    pub fn kind(&self) -> VerdictKind {
        let verdict = match self {
            Verdict::Pass => Word::Pass,
            Verdict::Violation { .. } => Word::Violation,
            Verdict::Livelock { .. } => Word::Livelock,
            Verdict::Shutdown { .. } => Word::Shutdown,
            Verdict::HostLimit { .. } => Word::HostLimit,
        };
        VerdictKind { verdict, invariant: self.invariant() }
    }

    /// The rule that was broken. A livelock breaks I17, a triple fault I18.
    pub fn invariant(&self) -> Option<Invariant> {
        match self {
            Verdict::Pass | Verdict::HostLimit { .. } => None,
            Verdict::Violation { invariant, .. } => Some(*invariant),
            Verdict::Livelock { .. } => Some(Invariant::Progress),
            Verdict::Shutdown { .. } => Some(Invariant::NoFault),
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
