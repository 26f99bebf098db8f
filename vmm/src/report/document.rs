//! The JSON document that `run`, `replay`, `campaign` and `merge` print; docs/guide/json.md
//! describes it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::coverage::RowCoverage;
use super::plain::make_plain;
use crate::campaign::{CellHeader, Disagreement, Found, Results, RowResult, Timing};
use crate::folder::Subject;
use crate::host_id::HostId;
use crate::image::Mode;
use crate::inject::Replay;
use crate::oracle::Verdict;

/// What stands for the verdict of a row without cases.
const NO_CASES: &str = "no-cases";

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The whole document.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// Where it was measured.
    pub host: HostId,
    /// The guest image's hash.
    pub image: String,
    /// The campaign, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<CampaignInfo>,
    /// Whether every case was run: `false` for an interrupted run, or a part of the shards.
    pub complete: bool,
    /// Units of work, those that were run and all; a campaign's only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Units>,
    /// Only a part was asked for: that it is not complete is no failure.
    #[serde(skip)]
    pub part: Option<String>,
    /// One for each scheme and scenario.
    pub rows: Vec<Row>,
    /// How many rows are as expected.
    pub summary: Summary,
    /// How long it took; only where asked for, since it is never the same twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Vec<Timing>>,
    /// Each instruction of the run, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<super::Step>>,
    /// What a page shows besides.
    #[serde(skip)]
    pub pictures: Pictures,
}

/// What only a page shows of a campaign, and what takes runs and the image to make.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// The shortest failing schedules told step by step, by the number of their row.
    pub stories: BTreeMap<usize, super::Story>,
    /// The entry code of each scheme.
    pub heat: Vec<super::Heat>,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct CampaignInfo {
    /// Its name, by which others refer to it.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// How its schedules are generated, in words.
    pub generate: String,
}

/// How much of a campaign was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Units {
    /// Units of work that were run to their end.
    pub run: u64,
    /// All of them, of every shard.
    pub of: u64,
}

/// How many rows are as expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Rows whose verdict is as expected.
    pub expected: usize,
    /// Rows whose verdict is another.
    pub unexpected: usize,
    /// Rows whose verdict more cases could change.
    pub open: usize,
    /// Not to be known here: this host lacks what the scenario needs.
    pub host_limit: usize,
    /// Rows without a single case, and so without a verdict.
    pub no_cases: usize,
    /// Cases in all rows.
    pub cases: u64,
    /// Cases that passed in free runs and were not stepped.
    pub not_stepped: u64,
    /// Cases that were run again in another gear.
    pub rechecked: u64,
    /// Of these, how many came to another verdict: a defect of ours.
    pub disagreed: u64,
}

/// One scheme and scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Who owns the NMI mask.
    pub mode: Mode,
    /// How many cases were run.
    pub cases: u64,
    /// `pass`, `violation`, `livelock`, `shutdown` or `host-limit`: of the failure with the
    /// shortest schedule, where there is one; `no-cases` where nothing was run.
    pub verdict: &'static str,
    /// The verdict expected, as `violation(I5)`.
    pub expected: String,
    /// Whether the verdict is as expected; not known while more cases could change it, nor
    /// where this host cannot show the scenario.
    pub as_expected: Option<bool>,
    /// The invariant broken, as `I5`.
    pub invariant: Option<String>,
    /// How, in one line.
    pub detail: Option<String>,
    /// The schedule that shows it.
    pub schedule: Option<String>,
    /// The line for `vmm replay`.
    pub replay: Option<String>,
    /// Units of work of it that were not run.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// Cases by verdict.
    pub counts: BTreeMap<&'static str, u64>,
    /// Every kind of failure, each with its shortest schedule.
    pub failures: Vec<FailureRow>,
    /// Cases that passed in free runs, and were not stepped: RSP (I9) and the privilege of what
    /// is executed (I15) were looked at where such a run stops, and not between. A campaign's
    /// rows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_stepped: Option<u64>,
    /// A place where a case read time or randomness: another run may come to another verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_time: Option<String>,
    /// This host has no SMIs, and the lab played those of its cases; campaigns only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub smi_played: bool,
    /// Cases that were run again in another gear.
    pub rechecked: u64,
    /// Those that came to another verdict there.
    pub disagreements: Vec<Disagreement>,
    /// What its cases covered (I20); a campaign's rows only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<RowCoverage>,
}

/// One kind of failure: a verdict and an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureRow {
    /// The verdict's word.
    pub verdict: &'static str,
    /// The invariant broken, as `I5`.
    pub invariant: Option<String>,
    /// How, in the case that the schedule shows.
    pub detail: String,
    /// Cases that failed so.
    pub cases: u64,
    /// The shortest schedule.
    pub schedule: String,
    /// The line for `vmm replay`.
    pub replay: String,
}

impl Document {
    /// What is missing, in words, where it is not complete.
    pub fn missing(&self) -> Option<String> {
        const NAMED: usize = 8;
        if self.complete {
            return None;
        }
        let of = |r: &Row| format!("{} / {} ({})", r.scheme, r.scenario, r.missing);
        let rows: Vec<String> = self.rows.iter().filter(|r| r.missing > 0).map(of).collect();
        let more = rows.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more rows") } else { String::new() };
        let Units { run, of } = self.units.unwrap_or(Units { run: 0, of: 0 });
        let list = rows.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        Some(format!("not complete: {run} of {of} units of work are there; missing in {list}{more}"))
    }

    /// Whether what is there may stand for the whole: everything was run, or a part was
    /// asked for; and there is no row that nothing was run for.
    pub fn is_evidence(&self) -> bool {
        match self.complete {
            true => self.summary.no_cases == 0 && self.summary.cases > 0,
            false => self.part.is_some(),
        }
    }

    /// The same, with all that a guest says made harmless.
    pub(super) fn plain(&self) -> Self {
        let mut plain = self.clone();
        for row in &mut plain.rows {
            let Row { scheme, scenario, detail, schedule, replay, reads_time, .. } = row;
            [scheme, scenario].into_iter().for_each(make_plain);
            [detail, schedule, replay, reads_time].into_iter().flatten().for_each(make_plain);
            for f in &mut row.failures {
                [&mut f.detail, &mut f.schedule, &mut f.replay].into_iter().for_each(make_plain);
            }
            for d in &mut row.disagreements {
                make_plain(&mut d.schedule);
                d.verdicts.iter_mut().for_each(|(_, words)| make_plain(words));
            }
        }
        for t in plain.timings.iter_mut().flatten() {
            [&mut t.scheme, &mut t.scenario].into_iter().for_each(make_plain);
        }
        plain
    }

    /// Of a campaign's results.
    pub fn of(results: &Results) -> Self {
        let header = &results.header;
        let rows: Vec<Row> = results.rows().into_iter().map(|row| Row::of_campaign(row, results)).collect();
        Self {
            host: header.host.clone(),
            image: header.image.clone(),
            campaign: Some(CampaignInfo {
                name: header.name.clone(),
                about: header.about.clone(),
                generate: header.generate_words(),
            }),
            complete: results.complete(),
            units: Some(Units { run: results.units.len() as u64, of: header.units() }),
            part: None,
            summary: Summary::of(&rows),
            rows,
            timings: None,
            trace: None,
            pictures: Pictures::default(),
        }
    }
}

impl Row {
    fn of_campaign(row: RowResult, results: &Results) -> Self {
        let RowResult { cell, tally, verdict, as_expected, units } = row;
        let failure = |f: &Found| FailureRow::of(cell, f, results);
        let worst = tally.worst().map(failure);
        Self {
            scheme: cell.scheme.clone(),
            scenario: cell.scenario.clone(),
            mode: cell.mode,
            cases: tally.cases,
            verdict: verdict.map_or(NO_CASES, |kind| kind.verdict.as_str()),
            missing: cell.units.saturating_sub(units),
            expected: cell.expected.to_string(),
            as_expected,
            invariant: verdict.and_then(|kind| kind.invariant).map(|i| i.to_string()),
            detail: worst.as_ref().map(|w| w.detail.clone()),
            schedule: worst.as_ref().map(|w| w.schedule.clone()),
            replay: worst.map(|w| w.replay),
            counts: tally.counts.iter().map(|(w, n)| (w.as_str(), *n)).collect(),
            failures: tally.failures.iter().map(failure).collect(),
            not_stepped: Some(tally.not_stepped()),
            reads_time: tally.reads_time.clone(),
            smi_played: tally.smi_played,
            rechecked: tally.rechecked,
            coverage: Some(RowCoverage::new(&tally.coverage, tally.closed, &results.header.stacks)),
            disagreements: tally.disagreements,
        }
    }

    /// Whether this host could not show it at all: neither as expected nor not.
    pub fn host_limited(&self) -> bool {
        self.as_expected.is_none() && self.verdict == "host-limit"
    }

    /// Whether nothing was run, and so nothing was judged.
    pub fn no_cases(&self) -> bool {
        self.verdict == NO_CASES
    }

    /// The row of a single run.
    pub fn of_run(replay: &Replay, verdict: &Verdict, gears: usize, disagreements: Vec<Disagreement>) -> Self {
        let failure = (!verdict.is_pass()).then(|| FailureRow {
            verdict: verdict.word(),
            invariant: verdict.invariant().map(|i| i.to_string()),
            detail: verdict.detail().to_owned(),
            cases: 1,
            schedule: replay.schedule.clone(),
            replay: replay.to_string(),
        });
        Self {
            scheme: replay.scheme.clone(),
            scenario: replay.scenario.clone(),
            mode: replay.mode,
            cases: 1,
            verdict: verdict.word(),
            missing: 0,
            expected: "pass".into(),
            as_expected: Some(verdict.is_pass()),
            invariant: verdict.invariant().map(|i| i.to_string()),
            detail: failure.as_ref().map(|f| f.detail.clone()),
            schedule: Some(replay.schedule.clone()),
            replay: Some(replay.to_string()),
            counts: BTreeMap::from([(verdict.word(), 1)]),
            failures: failure.into_iter().collect(),
            not_stepped: None,
            reads_time: None,
            smi_played: false,
            rechecked: gears as u64 - 1,
            disagreements,
            coverage: None,
        }
    }
}

impl FailureRow {
    fn of(cell: &CellHeader, found: &Found, results: &Results) -> Self {
        let replay = Replay {
            scheme: cell.scheme.clone(),
            scenario: cell.scenario.clone(),
            mode: cell.mode,
            image: results.header.image.clone(),
            knobs: results.header.knobs(),
            schedule: found.schedule.clone(),
        };
        Self {
            verdict: found.kind.verdict.as_str(),
            invariant: found.kind.invariant.map(|i| i.to_string()),
            detail: found.detail.clone(),
            cases: found.cases,
            schedule: found.schedule.clone(),
            replay: replay.to_string(),
        }
    }
}

impl Summary {
    /// Counts the rows by whether they are as expected.
    pub fn of(rows: &[Row]) -> Self {
        let count = |what: Option<bool>| rows.iter().filter(|r| r.as_expected == what).count();
        let empty = rows.iter().filter(|r| r.no_cases()).count();
        let limited = rows.iter().filter(|r| r.host_limited()).count();
        Self {
            expected: count(Some(true)),
            unexpected: count(Some(false)),
            open: count(None) - limited - empty,
            host_limit: limited,
            no_cases: empty,
            cases: rows.iter().map(|r| r.cases).sum(),
            not_stepped: rows.iter().filter_map(|r| r.not_stepped).sum(),
            rechecked: rows.iter().map(|r| r.rechecked).sum(),
            disagreed: rows.iter().map(|r| r.disagreements.len() as u64).sum(),
        }
    }
}

/// `violation(I5)`; the invariants of the other words are theirs alone.
pub(super) fn verdict(word: &str, invariant: Option<&str>) -> String {
    match invariant.filter(|_| word == "violation") {
        Some(i) => format!("{word}({i})"),
        None if word == "no-cases" => "no cases".to_owned(),
        None => word.to_owned(),
    }
}
