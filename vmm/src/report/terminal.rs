//! Results as a table and, under it, every failure with the line that replays it.

use std::fmt::Write;
use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};

use super::coverage::RowCoverage;
use super::document::{Document, FailureRow, Row};
use crate::campaign::Timing;

/// The whole report.
pub fn terminal(document: &Document) -> String {
    let mut out = String::new();
    if let Some(c) = &document.campaign {
        let _ = writeln!(out, "{}{}{}", c.name, if c.about.is_empty() { "" } else { ": " }, c.about);
        let _ = writeln!(out, "{}", c.generate);
    }
    let _ = writeln!(out, "host  {}\nimage {}\n", document.host, document.image);
    let _ = writeln!(out, "{}\n", table(document));
    for row in &document.rows {
        details(&mut out, row);
    }
    if let Some(timings) = &document.timings {
        let _ = writeln!(out, "{}\n", timing_table(timings));
    }
    summary(&mut out, document);
    out
}

fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(match std::io::stdout().is_terminal() {
        true => ContentArrangement::Dynamic,
        false => ContentArrangement::Disabled,
    });
    table
}

fn table(document: &Document) -> Table {
    let mut table = empty_table();
    let covered = document.rows.iter().any(|row| row.coverage.is_some());
    let mut header = vec!["scheme", "scenario", "mode", "cases", "verdict", "", "shortest failing schedule"];
    if covered {
        header.insert(4, "injected + open");
    }
    table.set_header(header);
    for row in &document.rows {
        let mut cells = vec![
            row.scheme.clone(),
            row.scenario.clone(),
            row.mode.to_string(),
            row.cases.to_string(),
            verdict(row.verdict, row.invariant.as_deref()),
            mark(row),
            row.schedule.clone().unwrap_or_default(),
        ];
        if covered {
            let of = |c: &RowCoverage| format!("{} + {}", c.injected, c.open);
            cells.insert(4, row.coverage.as_ref().map(of).unwrap_or_default());
        }
        table.add_row(cells);
    }
    table
}

/// `violation(I5)`; the invariants of the other words are theirs alone.
fn verdict(word: &str, invariant: Option<&str>) -> String {
    match invariant.filter(|_| word == "violation") {
        Some(i) => format!("{word}({i})"),
        None => word.to_owned(),
    }
}

fn mark(row: &Row) -> String {
    match row.as_expected {
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

fn timing_table(timings: &[Timing]) -> Table {
    let mut table = empty_table();
    table.set_header(["scheme", "scenario", "cases", "seconds of all threads", "µs per case"]);
    for t in timings {
        let each = t.seconds * 1e6 / t.cases.max(1) as f64;
        let numbers = [t.cases.to_string(), format!("{:.2}", t.seconds), format!("{each:.0}")];
        table.add_row([t.scheme.clone(), t.scenario.clone()].into_iter().chain(numbers));
    }
    table
}

fn summary(out: &mut String, document: &Document) {
    let s = &document.summary;
    let _ = write!(out, "{} as expected, {} not", s.expected, s.unexpected);
    if s.open > 0 {
        let _ = write!(out, ", {} not known yet", s.open);
    }
    if s.host_limit > 0 {
        let _ = write!(out, ", {} NOT SHOWN BY THIS HOST (host-limit)", s.host_limit);
    }
    let _ = write!(out, " · {} cases", s.cases);
    if s.rechecked > 0 {
        let _ = write!(out, ", {} run again in another gear: {} disagreements", s.rechecked, s.disagreed);
    }
    out.push('\n');
    coverage(out, document);
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
