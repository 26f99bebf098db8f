//! What `vmm linux --json` prints (docs/guide/json.md).

use serde::Serialize;

use super::campaign::Part;
use super::case::Outcome;
use super::lab::Lab;
use super::pc::Assists;
use super::sweep::{Kind, Row, SweepStats};
use crate::host_id::HostId;

/// A whole result.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// Where it was measured.
    pub host: HostId,
    /// What was run.
    pub kernel: KernelInfo,
    /// What help the host needed.
    pub assists: Assists,
    /// The campaign's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// Whether nothing is missing.
    pub complete: bool,
    /// A campaign's judgements, one for each run and site.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunJudgement>,
    /// Sweeps in the order in which they were made.
    pub sweeps: Vec<SweepInfo>,
    /// Sites that could not be swept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<SiteError>,
    /// What of the kernel no verdict says anything about, since its symbols do not name it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<&'static str>,
    /// What the results were held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BaselineInfo>,
    /// Numbers of all sweeps together.
    pub summary: SweepStats,
}

/// Earlier results, and what is new since.
#[derive(Clone, Debug, Serialize)]
pub struct BaselineInfo {
    /// Their file.
    pub file: String,
    /// Defects that were known.
    pub known: u64,
    /// Defects that were not.
    pub new: u64,
    /// Sweeps that the file has not.
    pub missing: Vec<String>,
}

/// The kernel under test.
#[derive(Clone, Debug, Serialize)]
pub struct KernelInfo {
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

/// Whether one run of a campaign, from one site, is as expected.
#[derive(Clone, Debug, Serialize)]
pub struct RunJudgement {
    /// What it is for.
    pub about: String,
    /// Where the first NMI arrived.
    pub site: String,
    /// Where defects must show.
    pub defects_at: Vec<String>,
    /// Whether they did, and nowhere else where none may; `null` while cases are
    /// missing.
    pub as_expected: Option<bool>,
    /// What was found, in words.
    pub why: String,
}

/// A site that could not be swept.
#[derive(Clone, Debug, Serialize)]
pub struct SiteError {
    /// The site, as it was named.
    pub site: String,
    /// What went wrong there.
    pub why: String,
}

/// One sweep.
#[derive(Clone, Debug, Serialize)]
pub struct SweepInfo {
    /// Where the first NMI arrived.
    pub site: String,
    /// Changes to the kernel's code.
    pub mutate: Vec<String>,
    /// Where #1's handler took a page fault in each case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// `second` or `third`: which NMI went from boundary to boundary; `fault`: a page fault did.
    pub part: Part,
    /// `masked` or `unmasked`: how it found NMIs.
    pub nmis: &'static str,
    /// How many cases came to what.
    #[serde(flatten)]
    pub stats: SweepStats,
    /// What NMIs here may write outside their stacks, by name: what the kernel as it came up
    /// writes. Every other change of memory is a violation.
    pub written: Vec<String>,
    /// Wall time that it took.
    pub seconds: f64,
    /// Every case.
    pub rows: Vec<CaseRow>,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseRow {
    /// What arrived where.
    pub schedule: String,
    /// `pass`, `violation`, …
    pub verdict: &'static str,
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
    pub expected: &'static str,
    /// Why that is to be expected.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub because: &'static str,
    /// Whether this is a defect of the kernel's entry code.
    pub defect: bool,
    /// It was in the baseline, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub known: bool,
    /// The command line that runs it again; `null` for a pass.
    pub replay: Option<String>,
}

impl KernelInfo {
    /// Of a kernel that has booted.
    pub fn of(file: String, image: String, cmdline: String, lab: &Lab) -> Self {
        let console = lab.pc().console(0);
        let version = lab.kernel().version(&console).unwrap_or_else(|| "unknown".to_owned());
        Self { file, image, version, symbols: lab.pc().symbols.source.clone(), cmdline }
    }
}

impl Document {
    /// One without results yet.
    pub fn new(kernel: KernelInfo, lab: &Lab) -> Self {
        Self {
            host: lab.host().clone(),
            kernel,
            assists: lab.pc().assists(),
            campaign: None,
            complete: true,
            runs: Vec::new(),
            sweeps: Vec::new(),
            errors: Vec::new(),
            unchecked: lab.kernel().unchecked(),
            baseline: None,
            summary: SweepStats::default(),
        }
    }

    /// Adds a sweep.
    pub fn add(&mut self, sweep: SweepInfo) {
        self.summary += sweep.stats;
        self.sweeps.push(sweep);
    }
}

impl SweepInfo {
    /// One without cases yet, from the lab's site.
    pub fn new(lab: &Lab, part: Part, kind: Kind) -> Self {
        let site = lab.show(lab.start().addr);
        let mutate = lab.mutations().to_vec();
        Self {
            site,
            mutate,
            fault: None,
            part,
            nmis: kind.word(),
            stats: SweepStats::default(),
            written: lab.written(),
            seconds: 0.0,
            rows: Vec::new(),
        }
    }
}

impl CaseRow {
    /// Of a sweep's case; `replay` makes a command line of a schedule.
    pub fn of(row: &Row, lab: &Lab, replay: impl Fn(&str) -> String) -> Self {
        let (expected, because) = row.expected.words();
        let schedule = lab.show_schedule(&row.events);
        Self { because, defect: row.is_defect(), ..Self::alone(&row.outcome, schedule, expected, replay) }
    }

    fn alone(outcome: &Outcome, schedule: String, expected: &'static str, replay: impl Fn(&str) -> String) -> Self {
        let verdict = &outcome.verdict;
        let replay = (!verdict.is_pass()).then(|| replay(&schedule));
        Self {
            schedule,
            verdict: verdict.word(),
            invariant: verdict.invariant().map(|i| i.to_string()),
            detail: (!verdict.is_pass()).then(|| verdict.detail().to_owned()),
            arrived: outcome.arrived,
            coalesced: outcome.coalesced,
            delivered: outcome.delivered,
            handled: outcome.handled,
            unreached: outcome.unreached,
            expected,
            because: "",
            defect: false,
            known: false,
            replay,
        }
    }
}
