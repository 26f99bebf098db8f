//! What `vmm linux --json` prints (docs/guide/json.md).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::campaign::{Judged, Part, judge};
use super::fault_by::FaultBy;
use super::header::{CellHeader, Group, Header, Unit};
use super::kind::Kind;
use super::lab::Lab;
use super::pc::Assists;
use super::replay::replay;
use super::row::{CaseRow, KernelInfo};
use super::sweep::SweepStats;
use crate::folder::{self, Merged, Subject};
use crate::host_id::HostId;

/// What came of sweeps, whole or in part.
#[derive(Clone, Debug)]
pub struct Results {
    /// What they are about.
    pub header: Header,
    /// Units that were run to their end.
    pub units: BTreeMap<u64, Unit>,
    /// Units that were stopped before; what they found counts, but they are run again.
    pub partial: BTreeMap<u64, Unit>,
    /// Why a group's sweeps were given up, by the group's number.
    pub failed: BTreeMap<usize, String>,
    /// Wall time that each cell took, of all threads together; `None` where not all of it was run
    /// now.
    pub seconds: Vec<Option<f64>>,
}

impl Results {
    /// Puts result folders together; returns what they hold, and what in them is damaged.
    pub fn merge(dirs: &[PathBuf]) -> Result<(Self, Vec<String>), folder::Error> {
        let Merged { header, units, damaged } = folder::merge::<Header, Unit>(dirs)?;
        let seconds = vec![None; header.cells.len()];
        Ok((Self { header, units, partial: BTreeMap::new(), failed: BTreeMap::new(), seconds }, damaged))
    }
}

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
    pub unchecked: Vec<String>,
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
    /// What a fault was; left out where it was the usual one.
    #[serde(skip_serializing_if = "FaultBy::is_usual")]
    pub fault_by: FaultBy,
    /// `second` or `third`: which NMI went from boundary to boundary; `fault`: a page fault did.
    pub part: Part,
    /// `masked` or `unmasked`: how it found NMIs.
    pub nmis: Kind,
    /// How many cases came to what.
    #[serde(flatten)]
    pub stats: SweepStats,
    /// What NMIs here may write outside their stacks, by name: what the kernel as it came up
    /// writes. Every other change of memory is a violation.
    pub written: Vec<String>,
    /// Wall time that it took, of all threads together; none where results were kept from before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Every case.
    pub rows: Vec<CaseRow>,
    /// How many cases there are, if all were run.
    #[serde(skip)]
    pub of: u64,
}

impl Document {
    /// One without sweeps.
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
            unchecked: unchecked(lab),
            baseline: None,
            summary: SweepStats::default(),
        }
    }

    /// What results say.
    pub fn of(results: &Results) -> Self {
        let h = &results.header;
        let cells = 0..h.cells.len();
        let sweeps: Vec<SweepInfo> =
            cells.map(|cell| SweepInfo::of(results, cell)).filter(|s| !s.rows.is_empty()).collect();
        let mut summary = SweepStats::default();
        sweeps.iter().for_each(|s| summary += s.stats);
        let errors = h.groups.iter().enumerate().filter_map(|(i, group)| {
            let why = group.error.as_ref().or(results.failed.get(&i))?;
            let name = if group.asked.is_empty() { "the default site" } else { &group.asked };
            Some(SiteError { site: group.asked.clone(), why: format!("{name} was not swept: {why}") })
        });
        let runs = h.groups.iter().enumerate().filter(|_| h.name.is_some());
        Self {
            host: h.host.clone(),
            kernel: h.kernel.clone(),
            assists: h.assists,
            campaign: h.name.clone(),
            complete: results.units.len() as u64 == h.units(),
            runs: runs.map(|(i, group)| RunJudgement::of(results, i, group)).collect(),
            errors: errors.collect(),
            sweeps,
            unchecked: h.unchecked.clone(),
            baseline: None,
            summary,
        }
    }
}

/// What no verdict says anything about.
pub(super) fn unchecked(lab: &Lab) -> Vec<String> {
    lab.kernel().unchecked().into_iter().map(str::to_owned).collect()
}

impl RunJudgement {
    fn of(results: &Results, number: usize, group: &Group) -> Self {
        let cells = results.header.cells.iter().enumerate().filter(|(_, c)| c.group == number);
        let (mut defects, mut done) = (Vec::new(), true);
        for (i, cell) in cells {
            done &= units(cell).all(|unit| results.units.contains_key(&unit));
            let rows = SweepInfo::of(results, i).rows;
            let label = |row: &CaseRow| row.place(cell.part).split('#').next().unwrap_or_default().to_owned();
            defects.extend(rows.iter().filter(|row| row.defect).map(label));
        }
        let Judged { as_expected, why } = match group.error.as_ref().or(results.failed.get(&number)) {
            Some(why) => Judged { as_expected: false, why: why.clone() },
            None => judge(&group.defects_at, &defects),
        };
        Self {
            about: group.about.clone(),
            site: group.site.clone(),
            defects_at: group.defects_at.clone(),
            as_expected: done.then_some(as_expected),
            why,
        }
    }
}

/// The units of a cell.
pub(super) fn units(cell: &CellHeader) -> std::ops::Range<u64> {
    cell.first_unit..cell.first_unit + cell.units
}

impl SweepInfo {
    /// What a cell came to.
    pub fn of(results: &Results, cell: usize) -> Self {
        let Results { header, units: whole, partial, .. } = results;
        let CellHeader { group, part, nmis, cases, .. } = header.cells[cell];
        let group = &header.groups[group];
        let range = units(&header.cells[cell]);
        let mut ran: BTreeMap<u64, &Unit> = partial.range(range.clone()).map(|(n, unit)| (*n, unit)).collect();
        ran.extend(whole.range(range).map(|(n, unit)| (*n, unit)));
        let mut stats = SweepStats::default();
        let mut rows = Vec::new();
        for unit in ran.into_values() {
            stats.rechecked += unit.rechecked;
            stats.disagreed += unit.disagreed;
            rows.extend(unit.rows.iter().cloned());
        }
        let line = |schedule: &str| {
            replay(&header.command, &group.mutate, group.fault_by, "jump", header.case_limit, schedule)
        };
        for row in rows.iter_mut().filter(|row| row.verdict != "pass") {
            row.replay = Some(line(&row.schedule));
        }
        let count = |what: fn(&CaseRow) -> bool| rows.iter().filter(|row| what(row)).count() as u64;
        (stats.cases, stats.defects, stats.missed) =
            (rows.len() as u64, count(|row| row.defect), count(CaseRow::is_silent));
        Self {
            site: group.site.clone(),
            mutate: group.mutate.clone(),
            fault: group.fault_at.clone(),
            fault_by: group.fault_by,
            part,
            nmis,
            stats,
            written: group.written.clone(),
            seconds: results.seconds.get(cell).copied().flatten(),
            rows,
            of: cases,
        }
    }
}
