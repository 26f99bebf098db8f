//! Lists of what there is: schemes, scenarios, boundaries.

use std::io::{self, Write};

use serde::Serialize;

use super::columns::columns;
use super::format::{Look, Report};
use super::json::pretty;
use super::plain::plain;
use crate::image::Mode;
use crate::image::declare::{Scenario, Scheme};

/// Schemes of an image.
pub struct SchemeList<'a> {
    /// The image's hash.
    pub image: &'a str,
    /// Those that are listed.
    pub schemes: Vec<&'a Scheme>,
    /// How many more there are.
    pub hidden: usize,
}

#[derive(Serialize)]
struct SchemeRow<'a> {
    scheme: &'a str,
    mode: Mode,
    /// The invariant that it breaks on purpose.
    broken: Option<&'a str>,
    /// The bug of history that it has or repairs.
    gallery: Option<&'a str>,
    summary: &'a str,
}

impl Report for SchemeList<'_> {
    fn text(&self, _: &Look) -> String {
        let lines = self.schemes.iter().map(|s| {
            let why = match (&s.broken, &s.gallery) {
                (Some(rule), _) => format!("breaks {rule} on purpose: "),
                (None, Some(bug)) => format!("{bug}: "),
                (None, None) => String::new(),
            };
            [plain(&s.name).into_owned(), s.mode.to_string(), plain(&format!("{why}{}", s.summary)).into_owned()]
        });
        let mut out = columns(["SCHEME", "MODE", "ABOUT"], lines);
        if self.hidden > 0 {
            out += &format!("\n{} more test the oracle or show bugs of history: --all lists them.\n", self.hidden);
        }
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        let row = |s: &&'_ Scheme| {
            serde_json::to_value(SchemeRow {
                scheme: &s.name,
                mode: s.mode,
                broken: s.broken.as_deref(),
                gallery: s.gallery.as_deref(),
                summary: &s.summary,
            })
        };
        let rows = self.schemes.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        pretty(&serde_json::json!({ "image": self.image, "schemes": rows }), to)
    }
}

/// Scenarios of an image.
pub struct ScenarioList<'a> {
    /// The image's hash.
    pub image: &'a str,
    /// All of them.
    pub scenarios: &'a [Scenario],
}

impl Report for ScenarioList<'_> {
    fn text(&self, _: &Look) -> String {
        let flags = |s: &Scenario| match (s.ring3, s.redzone) {
            (false, false) => "-",
            (true, false) => "ring3",
            (false, true) => "redzone",
            (true, true) => "ring3 redzone",
        };
        let line = |s: &Scenario| [plain(&s.name).into_owned(), flags(s).to_owned(), plain(&s.summary).into_owned()];
        columns(["SCENARIO", "FLAGS", "ABOUT"], self.scenarios.iter().map(line))
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        let row = |s: &Scenario| {
            serde_json::json!({
                "scenario": s.name, "ring3": s.ring3, "redzone": s.redzone, "summary": s.summary,
            })
        };
        let rows: Vec<_> = self.scenarios.iter().map(row).collect();
        pretty(&serde_json::json!({ "image": self.image, "scenarios": rows }), to)
    }
}

/// A boundary of a run, with all its visits.
#[derive(Clone, Debug, Serialize)]
pub struct Boundary {
    /// Its address, in words.
    pub address: String,
    /// As a schedule names it.
    pub place: String,
    /// Visits on this path; `#1` to this number can be named.
    pub visits: u32,
    /// Whether NMIs are blocked there.
    pub masked: Masked,
    /// At some visit, in the shadow of a `mov %ss` or `sti`.
    pub shadow: bool,
    /// The instruction that comes next.
    pub instruction: String,
    /// `file:line`, where the image has DWARF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The run that comes there first: `golden`, `nmi` or `schedule`.
    pub path: &'static str,
    /// Its address.
    #[serde(skip)]
    pub addr: u64,
}

/// Whether NMIs are blocked at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Masked {
    /// At no visit.
    No,
    /// At every visit.
    Yes,
    /// At some visits, and not at others.
    Both,
}

/// The boundaries of a path.
#[derive(Serialize)]
pub struct BoundaryList {
    /// The image's hash.
    pub image: String,
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Who owns the mask.
    pub mode: Mode,
    /// In the order of their first visits.
    pub boundaries: Vec<Boundary>,
    /// What is said between the boundaries of the golden run and those that one NMI adds.
    #[serde(skip)]
    pub notes: Vec<String>,
}

impl Report for BoundaryList {
    fn text(&self, _: &Look) -> String {
        let (nmi, golden): (Vec<_>, Vec<_>) = self.boundaries.iter().partition(|b| b.path == "nmi");
        let mut out = table(&golden);
        self.notes.iter().for_each(|note| out += &format!("\n{}\n", plain(note)));
        if !nmi.is_empty() {
            out += &format!("\n{}", table(&nmi));
        }
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(&serde_json::to_value(self)?, to)
    }
}

fn table(list: &[&Boundary]) -> String {
    let lines = list.iter().map(|b| {
        let visits = if b.visits == 1 { "#1".to_owned() } else { format!("#1..#{}", b.visits) };
        let masked = match b.masked {
            Masked::No => "open",
            Masked::Yes => "masked",
            Masked::Both => "both",
        };
        let shadow = if b.shadow { " shadow" } else { "" };
        let (nmis, instruction) = (format!("{masked}{shadow}"), b.instruction.replace('\t', " "));
        let source = plain(b.source.as_deref().unwrap_or_default()).into_owned();
        [b.address.clone(), plain(&b.place).into_owned(), visits, nmis, instruction, source]
    });
    let source = if list.iter().any(|b| b.source.is_some()) { "SOURCE" } else { "" };
    columns(["ADDRESS", "BOUNDARY", "VISITS", "NMIS", "INSTRUCTION", source], lines)
}
