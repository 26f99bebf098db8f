//! What came of NMIs into a real kernel.

use std::io::{self, Write};

use serde::Serialize;

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Cell, Mood, Page, Place, Tile, folded, story, strip, table};
use super::json::pretty;
use super::paint::{Ink, paint};
use super::story::Story;
use crate::host_id::HostId;
use crate::kernels::pc::Assists;
use crate::kernels::{CaseRow, Document, KernelInfo, SweepInfo};

/// Sweeps, or a campaign of them.
pub struct LinuxReport<'a> {
    /// The results.
    pub document: &'a Document,
    /// What was said as they came in: tables that fold what is the same.
    pub said: String,
}

impl Report for LinuxReport<'_> {
    fn text(&self, _: &Look) -> String {
        self.said.clone()
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self.document, to)
    }

    fn suite(&self) -> Option<Suite> {
        let d = self.document;
        let name = d.campaign.clone().unwrap_or_else(|| d.kernel.command());
        let mut tests: Vec<Test> = d.sweeps.iter().flat_map(sweep).collect();
        tests.extend(d.runs.iter().map(|run| Test {
            class: run.about.clone(),
            name: run.site.clone(),
            outcome: match run.as_expected {
                None => Outcome::Skipped("not all cases were run".into()),
                Some(ok) => Outcome::of(ok, || run.why.clone()),
            },
        }));
        if !d.runs.is_empty() {
            // A campaign says itself where defects must show.
            tests.drain(..tests.len() - d.runs.len());
        }
        tests.extend(d.errors.iter().map(|e| Test {
            class: "site".into(),
            name: e.site.clone(),
            outcome: Outcome::Failed { message: e.why.clone(), lines: vec![] },
        }));
        if !d.complete {
            let outcome = Outcome::Failed { message: "it was interrupted: cases are missing".into(), lines: vec![] };
            tests.push(Test { class: "vmm".into(), name: "complete".into(), outcome });
        }
        Some(Suite { name, properties: properties(&d.host, &d.kernel), tests })
    }

    fn page(&self) -> Option<Page> {
        let (d, s) = (self.document, &self.document.summary);
        let judged = |run: &crate::kernels::RunJudgement| {
            let mood = match run.as_expected {
                None => Mood::Warn,
                Some(ok) => {
                    if ok {
                        Mood::Good
                    } else {
                        Mood::Bad
                    }
                }
            };
            vec![Cell::text(&run.about), Cell::text(&run.site), Cell::judged(mood, &run.why)]
        };
        let mut parts = Vec::new();
        if !d.runs.is_empty() {
            let runs: Vec<_> = d.runs.iter().map(judged).collect();
            parts.push(table("Runs", &["run", "site", "judgement"], &runs));
        }
        let header = ["schedule", "verdict", "detail", "handled", "expected", "because"];
        for Path { site, part, rows } in strips(&d.sweeps) {
            parts.push(strip(&format!("The path of the {part} NMI, where #1 came at {site}"), &rows));
        }
        for sweep in &d.sweeps {
            let title = format!("NMI #1 at {}, {} NMI, NMIs {}", sweep.site, sweep.part.word(), sweep.nmis.word());
            let defects = sweep.rows.iter().filter(|row| row.defect).count();
            let about = format!(": {} cases, {defects} defects", sweep.rows.len());
            let mut rows: Vec<&CaseRow> = sweep.rows.iter().collect();
            rows.sort_by_key(|row| !row.defect); // what is wrong comes first
            let rows: Vec<_> = rows.into_iter().map(cells).collect();
            parts.push(folded(&title, &about, defects > 0, &header, &rows));
        }
        let new = d.baseline.as_ref().map_or(s.defects, |b| b.new);
        let bad = new > 0 || s.disagreed > 0 || !d.complete;
        Some(Page {
            title: d.campaign.clone().unwrap_or_else(|| title(&d.kernel)),
            lead: format!("{} cases: {} defects, {} say nothing", s.cases, s.defects, s.missed),
            mood: if bad { Mood::Bad } else { Mood::Good },
            facts: properties(&d.host, &d.kernel),
            parts,
        })
    }
}

/// The path of an NMI, in every way that it was swept.
struct Path {
    site: String,
    part: &'static str,
    rows: Vec<(String, Vec<Place>)>,
}

/// Sweeps of one site and part belong to one strip, with a row for each state of NMIs.
fn strips(sweeps: &[SweepInfo]) -> Vec<Path> {
    let mut out: Vec<Path> = Vec::new();
    for sweep in sweeps {
        let row = (format!("NMIs {}", sweep.nmis.word()), sweep.rows.iter().map(place).collect());
        let (site, part) = (sweep.site.clone(), sweep.part.word());
        match out.iter_mut().find(|path| path.site == site && path.part == part) {
            Some(path) => path.rows.push(row),
            None => out.push(Path { site, part, rows: vec![row] }),
        }
    }
    out
}

fn place(row: &CaseRow) -> Place {
    let tile = match &*row.verdict {
        "pass" if row.unreached == 0 => Tile::Good,
        _ if row.defect => Tile::Defect,
        _ if row.unreached > 0 || row.verdict == "host-limit" => Tile::Unknown,
        _ => Tile::Allowed,
    };
    // The last event is the one that goes from boundary to boundary.
    let last = row.schedule.split_whitespace().last().unwrap_or_default();
    let name = last.split_once('@').map_or(last, |(_, place)| place).to_owned();
    let detail = row.detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default();
    let title = format!("{}: {}{detail}; expected {} ({})", row.schedule, row.verdict, row.expected, row.because);
    Place { name, tile, any: row.expected == "any", title }
}

fn cells(row: &CaseRow) -> Vec<Cell> {
    let mood = match &*row.verdict {
        "pass" if row.unreached == 0 => Mood::Good,
        _ if row.defect => Mood::Bad,
        _ => Mood::Warn,
    };
    vec![
        Cell::text(&row.schedule),
        Cell::judged(
            mood,
            row.invariant.as_ref().map_or(row.verdict.to_string(), |i| format!("{} ({i})", row.verdict)),
        ),
        Cell::text(row.detail.as_deref().unwrap_or_default()),
        Cell::text(format!("{} of {}", row.handled, row.arrived)),
        Cell::text(&*row.expected),
        Cell::text(&*row.because),
    ]
}

/// What a page about it is called.
fn title(kernel: &KernelInfo) -> String {
    match &*kernel.kind {
        "kernel" => format!("NMIs into {}", kernel.file),
        _ => format!("NMIs into {}", kernel.version),
    }
}

fn properties(host: &HostId, kernel: &KernelInfo) -> Vec<(&'static str, String)> {
    vec![("host", host.to_string()), ("kernel", format!("{} ({})", kernel.version, kernel.image))]
}

fn sweep(sweep: &SweepInfo) -> impl Iterator<Item = Test> + '_ {
    let class = format!("{} {} {}", sweep.site, sweep.part.word(), sweep.nmis.word());
    sweep.rows.iter().map(move |row| row_test(&class, row))
}

fn row_test(class: &str, row: &CaseRow) -> Test {
    let found = || format!("{} instead of {}", row.verdict, row.expected);
    let outcome = match () {
        () if row.known => Outcome::Skipped(format!("a known defect: {} in the baseline, too", row.verdict)),
        () if row.defect => Outcome::Failed {
            message: found(),
            lines: [&row.detail, &row.replay].into_iter().flatten().cloned().collect(),
        },
        () if row.unreached > 0 => Outcome::Skipped("its boundary was never reached".into()),
        () if row.verdict == "host-limit" => Outcome::Skipped("this host cannot show it (host-limit)".into()),
        () => Outcome::Passed,
    };
    Test { class: class.to_owned(), name: row.schedule.clone(), outcome }
}

/// One case run several times.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Repeats {
    /// How many times it was run.
    pub of: u32,
    /// How many of them came to something else than the first: to another verdict, or to another
    /// state of the machine.
    pub differing: u32,
}

/// One schedule on a real kernel.
#[derive(Serialize)]
pub struct LinuxCase<'a> {
    /// Where it was measured.
    pub host: &'a HostId,
    /// What was run.
    pub kernel: &'a KernelInfo,
    /// What help the host needed.
    pub assists: Assists,
    /// What of the kernel the verdict says nothing about.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub unchecked: &'a [String],
    /// `arm`, `step` or `jump`: how it was carried out.
    pub gear: &'static str,
    /// What came of it.
    pub case: CaseRow,
    /// How often it was run, where it was run more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// What happened, for a page.
    #[serde(skip)]
    pub story: Option<Story>,
    /// The verdict in words.
    #[serde(skip)]
    pub verdict: String,
    /// What is expected, and why.
    #[serde(skip)]
    pub expected: String,
    /// What the text begins with.
    #[serde(skip)]
    pub header: String,
}

impl Report for LinuxCase<'_> {
    fn text(&self, look: &Look) -> String {
        let row = &self.case;
        let ink = if row.verdict == "pass" { Ink::Good } else { Ink::Bad };
        let plain = super::plain::plain;
        let mut out = format!("{}\n\n", self.header);
        out +=
            &format!("schedule   {}\nverdict    {}\n", plain(&row.schedule), paint(look, ink, &plain(&self.verdict)));
        out += &format!("expected   {}\n", plain(&self.expected));
        out += &format!(
            "NMIs       {} arrived, {} fell together, {} delivered, {} handled\n",
            row.arrived, row.coalesced, row.delivered, row.handled
        );
        if row.unreached > 0 {
            out += &format!("           {} events' boundaries were never reached\n", row.unreached);
        }
        if let Some(Repeats { of, differing }) = self.repeats {
            out += &format!("repeats    {of}, of which {differing} differ\n");
        }
        if let Some(replay) = &row.replay {
            out += &format!("replay     {}\n", plain(replay));
        }
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }

    fn suite(&self) -> Option<Suite> {
        let name = self.kernel.command();
        let tests = vec![row_test(&name, &self.case)];
        Some(Suite { name, properties: properties(self.host, self.kernel), tests })
    }

    fn page(&self) -> Option<Page> {
        let header = ["schedule", "verdict", "detail", "handled", "expected", "because"];
        let told = self.story.as_ref().map(|told| story(0, told));
        Some(Page {
            title: title(self.kernel),
            lead: format!("verdict: {}", self.verdict),
            mood: if self.case.verdict == "pass" { Mood::Good } else { Mood::Bad },
            facts: properties(self.host, self.kernel),
            parts: [table("", &header, &[cells(&self.case)])].into_iter().chain(told).collect(),
        })
    }
}
