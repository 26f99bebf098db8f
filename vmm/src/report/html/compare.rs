//! Schemes side by side: bars, and the table with all numbers.

use askama::Template;

use super::bars::{self, bars};
use super::table::{Cell, table};
use super::{Mood, Part};
use crate::compare::{Comparison, Judged, Row, Span};
use crate::image::Mode;
use crate::kernels::Costs;
use crate::report::real_xen::{REAL, real_row};

/// A figure of a row: its bar, and its words.
type Figure = fn(&Row) -> (Option<f64>, String);

const FIGURES: [(&str, Figure); 6] = [
    ("instructions of one NMI's entry and exit", |r| span(r.counts.first)),
    ("instructions of a nested NMI", |r| span(r.counts.nested)),
    ("most instructions in a row with NMIs blocked", |r| count(r.counts.blocked)),
    ("exits that the scheme asks for", |r| count(r.counts.exits)),
    ("bytes of stack in use at most", |r| count(r.counts.stack)),
    ("bytes of per-CPU state besides", |r| count(r.per_cpu)),
];

/// A figure of the real Xen's.
type Real = fn(&Costs) -> usize;

/// What the colours of bars mean.
#[derive(Template)]
#[template(
    source = "<div class=\"key\"><span class=\"frame1\">native</span><span class=\"frame2\">pv</span></div>",
    ext = "html"
)]
struct Key {}

fn count(n: u64) -> (Option<f64>, String) {
    (Some(n as f64), n.to_string())
}

fn span(span: Option<Span>) -> (Option<f64>, String) {
    match span {
        None => (None, "none".into()),
        Some(s) if s.min == s.max => count(s.max),
        Some(s) => (Some(s.max as f64), format!("{}..{}", s.min, s.max)),
    }
}

/// The parts of a comparison.
pub fn compare(c: &Comparison) -> Vec<Part> {
    let mut parts = Vec::new();
    for rows in c.rows.chunk_by(|a, b| a.scenario == b.scenario) {
        let header = ["scheme", "mode", "one NMI at every boundary", "every pattern", "broken by"];
        let line = |r: &Row| {
            let failing =
                [Some(&r.points), r.search.as_ref()].into_iter().flatten().find_map(|j| j.schedule.as_deref());
            vec![
                Cell::text(&r.scheme),
                Cell::text(r.mode.name()),
                judged(Some(&r.points)),
                judged(r.search.as_ref()),
                Cell::text(failing.unwrap_or_default()),
            ]
        };
        parts.push(table(&rows[0].scenario, &header, &rows.iter().map(line).collect::<Vec<_>>()));
        parts.push(Part::of(&Key {}));
        for (title, figure) in FIGURES {
            let bar = |r: &Row| {
                let (number, text) = figure(r);
                bars::Figure { name: r.scheme.clone(), pv: r.mode == Mode::Pv, number, text }
            };
            parts.push(bars(title, &rows.iter().map(bar).collect::<Vec<_>>()));
        }
        let timings: Vec<_> = c.timings.iter().flatten().filter(|t| t.scenario == rows[0].scenario).collect();
        if !timings.is_empty() {
            let pv = |scheme: &str| rows.iter().any(|r| r.scheme == scheme && r.mode == Mode::Pv);
            let bar = |t: &&crate::compare::Timing| {
                let micros = t.median_ns as f64 / 1000.0;
                let text = format!("{micros:.1} µs");
                bars::Figure { name: t.scheme.clone(), pv: pv(&t.scheme), number: Some(micros), text }
            };
            parts.push(bars("time of one NMI on this host, median", &timings.iter().map(bar).collect::<Vec<_>>()));
        }
    }
    if !c.real.is_empty() {
        let rows: Vec<Vec<Cell>> = c.real.iter().map(|costs| real_row(costs).map(Cell::text).into()).collect();
        parts.push(table("The real Xen: instructions of one NMI at a place of its guest's", &REAL, &rows));
        let figures: [(&str, Real); 3] = [
            ("instructions of one NMI in the real Xen", Costs::in_kernel),
            ("instructions of its last iret hypercall", |costs| costs.last_call().unwrap_or(0)),
            ("instructions with NMIs blocked", |costs| costs.blocked),
        ];
        for (title, figure) in figures {
            let bar = |costs: &Costs| {
                let (number, text) = count(figure(costs) as u64);
                let name = format!("{} at {}", costs.kernel.cmdline, costs.site);
                bars::Figure { name, pv: true, number, text }
            };
            parts.push(bars(title, &c.real.iter().map(bar).collect::<Vec<_>>()));
        }
    }
    parts
}

fn judged(j: Option<&Judged>) -> Cell {
    let Some(j) = j else { return Cell::text("not searched") };
    let mood = match j.verdict.as_str() {
        "pass" => Mood::Good,
        "open" | "host-limit" => Mood::Warn,
        _ => Mood::Bad,
    };
    match &j.invariant {
        Some(i) => Cell::judged(mood, format!("{}({i})", j.verdict)),
        None => Cell::judged(mood, &j.verdict),
    }
}
