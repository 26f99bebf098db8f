//! The table of a sweep: neighbouring boundaries with the same outcome are one line.

use super::lab::Lab;
use super::sweep::Row;
use crate::oracle::Verdict;

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
    /// Adds a case.
    pub fn add(&mut self, row: &Row, lab: &Lab) {
        let place = lab.show_schedule(&[crate::inject::Event { kind: crate::inject::Kind::Nmi, at: row.at }]);
        let place = place.trim_start_matches("nmi@").to_owned();
        let verdict = &row.outcome.verdict;
        let outcome = match verdict.invariant() {
            None if row.outcome.unreached > 0 => "not reached".to_owned(),
            None => verdict.word().to_owned(),
            Some(i) if matches!(verdict, Verdict::Violation { .. }) => format!("{i}: {}", brief(verdict.detail())),
            Some(_) => verdict.word().to_owned(),
        };
        let handled = format!("{}/{}", row.outcome.handled, row.outcome.arrived);
        let expected = row.expected.to_string();
        let agrees = !row.is_defect();
        if let Some(line) = self.lines.last_mut() {
            let same = line.outcome == outcome && line.expected == expected && line.agrees == agrees;
            if same && (line.handled == handled || !verdict.is_pass()) {
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
