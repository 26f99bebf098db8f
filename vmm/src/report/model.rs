//! How a host differs from the model of the CPU.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Cell, Mood, Page, table};
use super::json::pretty;
use crate::probe::model::{Example, FormRow, Report as Measured};

/// What `vmm probe --model` prints.
pub struct ModelReport(pub Measured);

impl Report for ModelReport {
    fn text(&self, look: &Look) -> String {
        let r = &self.0;
        let mut rows = super::table::table(look);
        rows.set_header(["form", "CPL", "same", "deviates", "differs", "not run", "not understood"]);
        // What is the same throughout needs no row.
        for row in r.forms.iter().filter(|row| row.same < r.cases) {
            let counts = [row.same, row.deviates, row.differs, row.not_run, row.not_understood].map(|n| n.to_string());
            rows.add_row([row.form.to_owned(), row.cpl.to_string()].into_iter().chain(counts));
        }
        let all = r.forms.iter().filter(|row| row.same == r.cases).count();
        let mut out = format!("{}\n{rows}\n", r.host);
        let _ = writeln!(out, "{all} of {} forms do as the model says in each of {} cases.", r.forms.len(), r.cases);
        for seen in &r.deviations {
            let _ = writeln!(out, "\n{}: {} ({} cases)\n  {}", seen.id, seen.what, seen.cases, show(&seen.example));
        }
        for row in r.forms.iter().filter(|row| row.differs > 0) {
            let example = row.example.as_ref().map(show).unwrap_or_default();
            let _ = writeln!(out, "\n{} at CPL {} differs, and nothing explains it\n  {example}", row.form, row.cpl);
        }
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(&self.0, to)
    }

    fn suite(&self) -> Option<Suite> {
        let test = |row: &FormRow| {
            let outcome = match &row.example {
                Some(example) => Outcome::Failed {
                    message: format!("{} cases are not as the model says", row.differs),
                    lines: std::iter::once(show(example)).chain(example.places.iter().cloned()).collect(),
                },
                None if row.same + row.deviates == 0 => {
                    Outcome::Skipped(row.why.clone().unwrap_or_else(|| "the model does not say".into()))
                }
                None => Outcome::Passed,
            };
            Test { class: format!("CPL {}", row.cpl), name: row.form.to_owned(), outcome }
        };
        Some(Suite {
            name: "vmm probe --model".into(),
            properties: vec![("host", self.0.host.to_string())],
            tests: self.0.forms.iter().map(test).collect(),
        })
    }

    fn page(&self) -> Option<Page> {
        let r = &self.0;
        let row = |row: &FormRow| {
            let (mood, text) = match () {
                () if row.differs > 0 => (Mood::Bad, "differs"),
                () if row.deviates > 0 => (Mood::Warn, "deviates"),
                () if row.same > 0 => (Mood::Good, "as the model says"),
                () => (Mood::Plain, "not compared"),
            };
            let mut cells = vec![Cell::text(row.form), Cell::number(row.cpl), Cell::judged(mood, text)];
            cells.extend(
                [row.same, row.deviates, row.differs, row.not_run, row.not_understood].into_iter().map(Cell::number),
            );
            cells
        };
        let seen = r.deviations.iter().map(|seen| {
            vec![Cell::text(seen.id), Cell::text(seen.what), Cell::number(seen.cases), Cell::text(show(&seen.example))]
        });
        let header = ["form", "CPL", "", "same", "deviates", "differs", "not run", "not understood"];
        Some(Page {
            title: "KVM and the model of the CPU".into(),
            lead: format!("{} cases differ, and nothing explains them.", r.sum(|row| row.differs)),
            mood: if r.is_explained() { Mood::Good } else { Mood::Bad },
            facts: vec![("host", r.host.to_string())],
            parts: vec![
                table("Deviations", &["name", "what it does", "cases", "seen in"], &seen.collect::<Vec<_>>()),
                table("Forms", &header, &r.forms.iter().map(row).collect::<Vec<_>>()),
            ],
        })
    }
}

/// A case in one line: what it was, and the first place that differs.
fn show(example: &Example) -> String {
    let Example { form, cpl, case, code, places } = example;
    let more = if places.len() > 1 { format!(" and {} more", places.len() - 1) } else { String::new() };
    let first = places.first().map_or("", String::as_str);
    format!("{form} at CPL {cpl}, case {case} ({code}): {first}{more}")
}
