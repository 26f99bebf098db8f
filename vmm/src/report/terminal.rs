//! Results as a table and, under it, every failure with the line that replays it.

use std::fmt::Write;
use std::io;

use comfy_table::{Cell, Color, Table};

use super::coverage::RowCoverage;
use super::document::{Document, FailureRow, Row, verdict};
use super::format::{Format, Kind, Look, Report};
use super::plain::shortened;
use super::table::table as empty_table;
use crate::campaign::Timing;

/// `--format text`.
pub struct Text;

impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn fits(&self, _: Kind) -> bool {
        true
    }

    fn write(&self, report: &dyn Report, look: &Look, to: &mut dyn io::Write) -> io::Result<()> {
        to.write_all(report.text(look).as_bytes())
    }
}

/// The whole report.
pub fn terminal(document: &Document, look: &Look) -> String {
    let document = &document.plain();
    let mut out = String::new();
    if let Some(c) = &document.campaign {
        let _ = writeln!(out, "{}{}{}", c.name, if c.about.is_empty() { "" } else { ": " }, c.about);
        let _ = writeln!(out, "{}", c.generate);
    }
    let _ = writeln!(out, "host  {}\nimage {}\n", document.host, document.image);
    let _ = writeln!(out, "{}\n", table(document, look));
    for row in &document.rows {
        details(&mut out, row);
    }
    if let Some(timings) = &document.timings {
        let _ = writeln!(out, "{}\n", timing_table(timings, look));
    }
    summary(&mut out, document);
    out
}

fn table(document: &Document, look: &Look) -> Table {
    let mut table = empty_table(look);
    // What is cut here is whole in the replay line below, and in JSON.
    let most = look.width.map_or(usize::MAX, |w| usize::from(w / 3).max(24));
    let covered = document.rows.iter().any(|row| row.coverage.is_some());
    let mut header = vec!["scheme", "scenario", "mode", "cases", "verdict", "", "shortest failing schedule"];
    if covered {
        header.insert(4, "injected + open");
    }
    table.set_header(header);
    for row in &document.rows {
        let mut cells = vec![
            Cell::new(&row.scheme),
            Cell::new(&row.scenario),
            Cell::new(row.mode.to_string()),
            Cell::new(row.cases.to_string()),
            Cell::new(verdict(row.verdict, row.invariant.as_deref())).fg(colour(row)),
            Cell::new(mark(row)).fg(colour(row)),
            Cell::new(shortened(row.schedule.as_deref().unwrap_or_default(), most)),
        ];
        if covered {
            let of = |c: &RowCoverage| format!("{} + {}", c.injected, c.open);
            cells.insert(4, Cell::new(row.coverage.as_ref().map(of).unwrap_or_default()));
        }
        table.add_row(cells);
    }
    table
}

fn colour(row: &Row) -> Color {
    match row.as_expected {
        Some(true) => Color::Green,
        Some(false) => Color::Red,
        None => Color::Yellow,
    }
}

fn mark(row: &Row) -> String {
    match row.as_expected {
        None if row.no_cases() => format!("! nothing was run, expected {}", row.expected),
        None if row.host_limited() => format!("! not shown here, expected {}", row.expected),
        Some(true) => "✓".into(),
        Some(false) => format!("✗ expected {}", row.expected),
        None => "… not all run".into(),
    }
}

/// The failures of a row, that with the shortest schedule first.
fn details(out: &mut String, row: &Row) {
    if row.failures.is_empty() && row.disagreements.is_empty() {
        return;
    }
    let _ = writeln!(out, "{} / {} / {}", row.scheme, row.scenario, row.mode);
    if row.host_limited() {
        let _ = writeln!(out, "  host-limit, not run: {}\n", row.detail.as_deref().unwrap_or_default());
        return;
    }
    let worst = |f: &&FailureRow| row.replay.as_ref() != Some(&f.replay);
    let (others, first): (Vec<&FailureRow>, Vec<&FailureRow>) = row.failures.iter().partition(worst);
    for f in first.into_iter().chain(others) {
        let cases = if f.cases == 1 { "1 case".to_owned() } else { format!("{} cases", f.cases) };
        let _ = writeln!(out, "  {} in {cases}: {}", verdict(f.verdict, f.invariant.as_deref()), f.detail);
        let _ = writeln!(out, "    vmm replay '{}'", f.replay);
    }
    for d in &row.disagreements {
        let _ = writeln!(out, "  the gears disagree, which is a defect of vmm: {}", d.schedule);
        for (gear, verdict) in &d.verdicts {
            let _ = writeln!(out, "    {gear:5} {verdict}");
        }
    }
    out.push('\n');
}

fn timing_table(timings: &[Timing], look: &Look) -> Table {
    let mut table = empty_table(look);
    table.set_header(["scheme", "scenario", "cases", "seconds of all threads", "µs per case"]);
    for t in timings {
        let each = t.seconds * 1e6 / t.cases.max(1) as f64;
        let numbers = [t.cases.to_string(), format!("{:.2}", t.seconds), format!("{each:.0}")];
        table.add_row([t.scheme.clone(), t.scenario.clone()].into_iter().chain(numbers));
    }
    table
}

fn summary(out: &mut String, document: &Document) {
    coverage(out, document);
    let s = &document.summary;
    let _ = write!(out, "{} as expected, {} not", s.expected, s.unexpected);
    if s.open > 0 {
        let _ = write!(out, ", {} not known yet", s.open);
    }
    if s.host_limit > 0 {
        let _ = write!(out, ", {} NOT SHOWN BY THIS HOST (host-limit)", s.host_limit);
    }
    if s.no_cases > 0 {
        let _ = write!(out, ", {} WITHOUT CASES, which say nothing", s.no_cases);
    }
    let _ = write!(out, " · {} cases", s.cases);
    if s.rechecked > 0 {
        let _ = write!(out, ", {} run again in another gear: {} disagreements", s.rechecked, s.disagreed);
    }
    if s.not_stepped > 0 {
        let _ = write!(out, "; {} passed without being stepped (I9, I15: at stops only)", s.not_stepped);
    }
    match document.rows.iter().filter(|row| row.smi_played).count() {
        0 => {}
        n => out.push_str(&format!("; rows whose SMIs the lab PLAYED, since this host has none (host-limit): {n}")),
    }
    let timed: Vec<&String> = document.rows.iter().filter_map(|row| row.reads_time.as_ref()).collect();
    if let Some(at) = timed.first() {
        let _ = write!(
            out,
            "; rows that READ TIME OR RANDOMNESS, as at {at}, and may differ in another run: {}",
            timed.len()
        );
    }
    match (&document.part, document.missing()) {
        (_, None) => {}
        (Some(part), Some(missing)) => {
            let _ = write!(out, "; {part} only: {missing}");
        }
        (None, Some(missing)) => {
            let _ = write!(out, "; NOT COMPLETE: {}", missing.trim_start_matches("not complete: "));
        }
    }
    out.push('\n');
}

/// I20, of all rows together.
fn coverage(out: &mut String, document: &Document) {
    let rows: Vec<&RowCoverage> = document.rows.iter().filter_map(|row| row.coverage.as_ref()).collect();
    if rows.is_empty() {
        return;
    }
    let sum = |of: fn(&RowCoverage) -> u64| rows.iter().map(|c| of(c)).sum::<u64>();
    let (all, injected) = (sum(|c| c.boundaries), sum(|c| c.injected));
    let (latched, open) = (sum(|c| c.latched), sum(|c| c.open));
    let _ = write!(out, "I20: boundaries by context {all} = {injected} injected + {latched} latched + {open} open");
    let closed = rows.iter().filter(|c| c.unreachable.is_some()).count();
    let _ = match closed {
        0 => writeln!(out, "; a sample: what was not seen is open, too"),
        n if n == rows.len() => writeln!(out, "; closed: an unblocked context not seen is unreachable"),
        n => writeln!(out, "; {n} of {} rows closed: an unblocked context not seen there is unreachable", rows.len()),
    };
}
