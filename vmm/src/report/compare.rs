//! A comparison as tables: one of costs and verdicts for each scenario, one of times.

use std::fmt::Write;
use std::io;

use comfy_table::{CellAlignment, Table};

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Mood, Page};
use super::json::pretty;
use super::plain::plain;
use super::real_xen::{REAL, real_row};
use crate::compare::{BASELINE, Comparison, Counts, Judged, Row, Span, Timing};
use crate::kernels::Costs;

impl Report for Comparison {
    fn text(&self, look: &Look) -> String {
        comparison(self, look)
    }

    fn json(&self, to: &mut dyn io::Write) -> io::Result<()> {
        pretty(self, to)
    }

    fn suite(&self) -> Option<Suite> {
        let kinds = |row: &Row| {
            [("points", Some(row.points.clone())), ("search", row.search.clone())].map(|(kind, j)| {
                j.map(|j| Test {
                    class: row.scheme.clone(),
                    name: format!("{} ({}): {kind}", row.scenario, row.mode),
                    outcome: outcome(&j),
                })
            })
        };
        let mut tests: Vec<Test> = self.rows.iter().flat_map(kinds).flatten().collect();
        if !self.complete {
            let outcome = Outcome::Failed { message: "it was interrupted: rows are missing".into(), lines: vec![] };
            tests.push(Test { class: "vmm".into(), name: "complete".into(), outcome });
        }
        let properties = vec![("host", self.host.to_string()), ("image", self.image.clone())];
        Some(Suite { name: "vmm compare".into(), properties, tests })
    }

    fn page(&self) -> Option<Page> {
        let carried = ("hypercalls", format!("by {}", self.transport));
        Some(Page {
            title: "Schemes side by side".into(),
            lead: if self.complete { String::new() } else { "It was interrupted: rows are missing.".into() },
            mood: Mood::Warn,
            facts: vec![("host", self.host.to_string()), ("image", self.image.clone()), carried],
            parts: super::html::compare(self),
        })
    }
}

/// As a test that expects a pass: a comparison knows no other expectation.
fn outcome(j: &Judged) -> Outcome {
    match j.verdict.as_str() {
        "pass" => Outcome::Passed,
        "open" => Outcome::Skipped("the search came to its limit, and found nothing until then".into()),
        "host-limit" => Outcome::Skipped("this host cannot show it (host-limit)".into()),
        _ => Outcome::Failed {
            message: format!("{} instead of pass", judged(j)),
            lines: [&j.detail, &j.schedule].into_iter().flatten().cloned().collect(),
        },
    }
}

/// The whole comparison.
fn comparison(c: &Comparison, look: &Look) -> String {
    let mut out = format!("host  {}\nimage {}, hypercalls by {}\n", c.host, c.image, c.transport);
    for rows in c.rows.chunk_by(|a, b| a.scenario == b.scenario) {
        let _ = writeln!(out, "\n{}: what one NMI costs, by counting\n{}", plain(&rows[0].scenario), costs(rows, look));
    }
    if !c.real.is_empty() {
        let _ =
            writeln!(out, "\nthe real Xen, one NMI at a place of its guest's, by counting\n{}", real(&c.real, look));
    }
    let broken = c.rows.iter().flat_map(|r| [Some(&r.points), r.search.as_ref()].map(|j| (r, j)));
    let broken: Vec<String> = broken.filter_map(|(r, j)| failure(r, j?)).collect();
    if !broken.is_empty() {
        let _ = writeln!(out, "\n{}", broken.join("\n"));
    }
    let _ = write!(out, "\n{LEGEND}");
    if let Some(timings) = c.timings.as_deref().filter(|t| !t.is_empty()) {
        let _ = write!(out, "\ntimes on this host, which are not the same twice\n{}\n", times(timings, look));
    }
    out
}

const LEGEND: &str = "\
first     instructions of one NMI's entry and exit, its body and the body's faults apart
nested    instructions from a nested NMI's delivery until what it interrupted goes on
repeated  instructions that it adds besides: what running the body again costs
          never: no boundary lets one in; none: each is served otherwise; broken (I5): every
          one breaks a rule, that one first
broken    of the boundaries where a first NMI was counted, and of those inside it where a
          second can come in: those where it breaks a rule
blocked   most instructions in a row with NMIs blocked: the worst latency of an NMI
exits     that the scheme asks for; hcalls: those that are hypercalls, the rest is played
stack     bytes in use at most, the body's included; per-CPU: bytes of its own elsewhere
in Xen    of the real Xen: instructions at CPL 0, those of hypercalls and faults included
points    one NMI at every boundary; search: every pattern of NMIs, as far as it came
";

fn table<const N: usize>(header: [&str; N], numbers: std::ops::Range<usize>, look: &Look) -> Table {
    let mut table = super::table::table(look);
    table.set_header(header);
    for (i, column) in table.column_iter_mut().enumerate() {
        if numbers.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn costs(rows: &[Row], look: &Look) -> Table {
    let header = [
        "scheme", "mode", "first", "nested", "repeated", "broken", "blocked", "exits", "hcalls", "faults", "stack",
        "per-CPU", "points", "search",
    ];
    let mut table = table(header, 2..12, look);
    for row in rows {
        let c = &row.counts;
        table.add_row([
            plain(&row.scheme).into_owned(),
            row.mode.to_string(),
            first(c),
            nested(c, c.nested),
            nested(c, c.repeated),
            broken(c),
            c.blocked.to_string(),
            c.exits.to_string(),
            c.hypercalls.to_string(),
            c.faults.to_string(),
            c.stack.to_string(),
            row.per_cpu.to_string(),
            judged(&row.points),
            row.search.as_ref().map_or("-".into(), judged),
        ]);
    }
    table
}

fn real(all: &[Costs], look: &Look) -> Table {
    let mut table = table(REAL, 3..8, look);
    for costs in all {
        table.add_row(real_row(costs));
    }
    table
}

fn span(s: Span) -> String {
    match s.min == s.max {
        true => s.max.to_string(),
        false => format!("{}..{}", s.min, s.max),
    }
}

/// Where no sampled NMI came back: the rule that the first of them broke.
fn first(c: &Counts) -> String {
    match (c.first, c.breaks) {
        (Some(s), _) => span(s),
        (None, Some(rule)) => format!("broken ({rule})"),
        (None, None) => "none tried".into(),
    }
}

/// A figure of nested NMIs, or why there is none.
fn nested(c: &Counts, figure: Option<Span>) -> String {
    match (figure, c.nested_breaks) {
        (Some(s), _) => span(s),
        (None, _) if c.nested_cases == 0 => "never".into(),
        (None, Some(rule)) if c.nested_broken == c.nested_cases => format!("broken ({rule})"),
        (None, _) => "none".into(),
    }
}

fn broken(c: &Counts) -> String {
    let alone = format!("{}/{}", c.broken, c.samples + c.broken);
    match c.nested_cases {
        0 => alone,
        n => format!("{alone}, {}/{n}", c.nested_broken),
    }
}

fn judged(j: &Judged) -> String {
    match j.invariant.as_deref().filter(|_| j.verdict == "violation") {
        Some(i) => format!("{}({i})", j.verdict),
        None if j.verdict == "open" => format!("open ({} states)", j.size),
        None => j.verdict.clone(),
    }
}

fn failure(row: &Row, j: &Judged) -> Option<String> {
    let (detail, schedule) = (j.detail.as_deref()?, j.schedule.as_deref()?);
    let (scheme, scenario) = (plain(&row.scheme), plain(&row.scenario));
    let (detail, schedule) = (plain(detail), plain(schedule));
    Some(format!("{scheme} / {scenario}: {}: {detail}\n  schedule  {schedule}", judged(j)))
}

fn times(timings: &[Timing], look: &Look) -> Table {
    let over = format!("over {BASELINE}");
    let header = ["scenario", "scheme", "NMIs", "median µs", "p99 µs", over.as_str()];
    let mut table = table(header, 2..6, look);
    let micros = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
    for t in timings {
        table.add_row([
            plain(&t.scenario).into_owned(),
            plain(&t.scheme).into_owned(),
            t.nmis.to_string(),
            micros(t.median_ns),
            micros(t.p99_ns),
            t.ratio.map_or("-".into(), |r| format!("{r:.2}")),
        ]);
    }
    table
}
