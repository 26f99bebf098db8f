//! A kernel, and what came of one case on it, in words.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::campaign::Part;
use super::case::Outcome;
use super::lab::Lab;
use super::sweep::Row;

/// The kernel under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelInfo {
    /// What sort it is: `linux`, `xen`, or `kernel` for any other.
    #[serde(default)]
    pub kind: String,
    /// Its file, as it was named.
    pub file: String,
    /// Hash of the unpacked kernel.
    pub image: String,
    /// What it says on the console that it is.
    pub version: String,
    /// Where its symbols come from.
    pub symbols: String,
    /// The words of its command line that were chosen: those given, and whether mitigations are
    /// on.
    pub cmdline: String,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseRow {
    /// What arrived where.
    pub schedule: String,
    /// `pass`, `violation`, …
    pub verdict: Cow<'static, str>,
    /// The invariant broken, as `I5`.
    pub invariant: Option<String>,
    /// What was seen, in one line.
    pub detail: Option<String>,
    /// NMIs that arrived.
    pub arrived: u32,
    /// Of these, how many fell together with one already latched.
    pub coalesced: u32,
    /// How many the CPU delivered.
    pub delivered: u32,
    /// How many the kernel counted.
    pub handled: u32,
    /// Events whose boundary was never reached.
    pub unreached: u32,
    /// `pass` or `any`.
    pub expected: Cow<'static, str>,
    /// Why that is to be expected.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub because: Cow<'static, str>,
    /// Whether this is a defect of the kernel's entry code.
    pub defect: bool,
    /// It was in the baseline, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known: bool,
    /// The command line that runs it again; `null` for a pass, and in result folders.
    pub replay: Option<String>,
}

impl KernelInfo {
    /// The command that judges such a kernel.
    pub fn command(&self) -> String {
        format!("vmm {}", if self.kind.is_empty() { "linux" } else { &self.kind })
    }

    /// Of a kernel that has booted.
    pub fn of(file: String, image: String, cmdline: String, lab: &Lab) -> Self {
        let console = lab.pc().console(0);
        let version = lab.kernel().version(&console).unwrap_or_else(|| "unknown".to_owned());
        let kind = lab.kernel().name().to_lowercase();
        Self { kind, file, image, version, symbols: lab.pc().symbols.source.clone(), cmdline }
    }
}

impl CaseRow {
    /// Of a case.
    pub fn of(row: &Row, lab: &Lab) -> Self {
        let (expected, because) = row.expected.words();
        let Outcome { verdict, arrived, coalesced, delivered, handled, unreached } = &row.outcome;
        Self {
            schedule: lab.show_schedule(&row.events),
            verdict: verdict.word().into(),
            invariant: verdict.invariant().map(|i| i.to_string()),
            detail: (!verdict.is_pass()).then(|| verdict.detail().to_owned()),
            arrived: *arrived,
            coalesced: *coalesced,
            delivered: *delivered,
            handled: *handled,
            unreached: *unreached,
            expected: expected.into(),
            because: because.into(),
            defect: row.is_defect(),
            known: false,
            replay: None,
        }
    }

    /// Whether it says nothing about its boundary, which was not come to, or which the host cannot
    /// show.
    pub fn is_silent(&self) -> bool {
        self.verdict == "host-limit" || self.unreached > 0 && self.verdict == "pass"
    }

    /// The place of what goes from boundary to boundary in a sweep of `part`, as `label+0x4#1`.
    pub fn place(&self, part: Part) -> &str {
        let kind = if part == Part::Fault { "fault@" } else { "nmi@" };
        self.schedule.split_whitespace().rev().find_map(|event| event.strip_prefix(kind)).unwrap_or_default()
    }
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}
