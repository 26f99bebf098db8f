//! The table of a sweep: neighbouring boundaries with the same outcome are one line.

use super::results::SweepInfo;
use super::row::CaseRow;

struct Line {
    first: String,
    last: String,
    cases: usize,
    outcome: String,
    handled: String,
    expected: String,
    agrees: bool,
}

/// The rows of a sweep, gathered by what was found.
#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// Of a sweep.
    pub fn of(sweep: &SweepInfo) -> Self {
        let mut table = Self::default();
        sweep.rows.iter().for_each(|row| table.add(row, row.place(sweep.part)));
        table
    }

    fn add(&mut self, row: &CaseRow, place: &str) {
        let outcome = match &row.invariant {
            None if row.unreached > 0 => "not reached".to_owned(),
            Some(i) if row.verdict == "violation" => {
                format!("{i}: {}", brief(row.detail.as_deref().unwrap_or_default()))
            }
            _ => row.verdict.clone().into_owned(),
        };
        let handled = format!("{}/{}", row.handled, row.arrived);
        let expected = format!("{}: {}", row.expected, row.because);
        let agrees = !row.defect;
        let place = place.to_owned();
        if let Some(line) = self.lines.last_mut() {
            let same = line.outcome == outcome && line.expected == expected && line.agrees == agrees;
            if same && (line.handled == handled || row.verdict != "pass") {
                (line.last, line.cases) = (place, line.cases + 1);
                return;
            }
        }
        self.lines.push(Line { first: place.clone(), last: place, cases: 1, outcome, handled, expected, agrees });
    }

    /// The table, as text.
    pub fn show(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["from", "to", "cases", "handled", "outcome", "expected", ""]);
        for l in &self.lines {
            let mark = if l.agrees { "" } else { "DEFECT" };
            table.add_row([&l.first, &l.last, &l.cases.to_string(), &l.handled, &l.outcome, &l.expected, mark]);
        }
        table.to_string()
    }
}

/// A detail without what differs from case to case.
fn brief(detail: &str) -> &str {
    detail.split([':', ',']).next().unwrap_or(detail)
}
