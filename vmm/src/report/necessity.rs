//! An entry path as a listing in which each instruction has its reason.

use std::io::{self, Write};

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Cell, Mood, Page, table};
use super::json::pretty;
use super::paint::{Ink, paint};
use super::plain::plain;
use crate::necessity::{Finding, Necessity};

/// What a change came to, in a word or two.
fn word(finding: &Finding) -> String {
    match finding.needs.first() {
        Some(need) => need.rule.clone().unwrap_or_else(|| "runs".to_owned()),
        None if finding.unknown.is_empty() => "-".to_owned(),
        None => "?".to_owned(),
    }
}

/// What stands beside it.
fn reason(finding: &Finding) -> String {
    let needs = finding.needs.iter().map(|need| match need.schedule.as_str() {
        "" => format!("{}: without it the guest does not run: {}", need.scenario, need.detail),
        schedule => format!("{}: {schedule}", need.scenario),
    });
    let unknown = finding.unknown.iter().map(|(scenario, why)| format!("{scenario}: not known: {why}"));
    match finding.is_not_shown() {
        true => "not shown to be needed".to_owned(),
        false => needs.chain(unknown).collect::<Vec<_>>().join("; "),
    }
}

impl Necessity {
    fn counts(&self) -> String {
        let needed = self.findings.iter().filter(|f| f.is_needed()).count();
        let idle = self.findings.iter().filter(|f| f.is_not_shown()).count();
        let unknown = self.findings.len() - needed - idle;
        let rest = match unknown {
            0 => String::new(),
            n => format!(", {n} NOT KNOWN"),
        };
        let missing = match self.complete {
            true => String::new(),
            false => format!("; NOT COMPLETE: {} of {} changes were tried", self.findings.len(), self.of),
        };
        format!("{needed} are needed, {idle} are not shown to be needed{rest}{missing}")
    }

    fn asked(&self) -> String {
        let asked = self.scenarios.iter().filter(|a| a.left_out.is_none());
        asked.map(|a| format!("{} ({} states)", a.scenario, a.states)).collect::<Vec<_>>().join(", ")
    }
}

impl Report for Necessity {
    fn text(&self, look: &Look) -> String {
        let mut out = format!("{} ({})\nhost   {}\nimage  {}\n", self.scheme, self.mode.name(), self.host, self.image);
        out += &format!("asked  {}\n", self.asked());
        for asked in &self.scenarios {
            if let Some(why) = &asked.left_out {
                out += &format!("left out  {}: {}\n", asked.scenario, plain(why));
            }
        }
        let mut label = String::new();
        for finding in &self.findings {
            let (own, offset) = finding.place.split_once('+').unwrap_or((&finding.place, "0x0"));
            if label != own {
                label = own.to_owned();
                out += &format!("\n{label}:\n");
            }
            let what = match finding.change.as_str() {
                "removed" => finding.instruction.clone(),
                change => format!("{} ({change})", finding.instruction),
            };
            let (word, ink) = match (finding.is_needed(), finding.is_not_shown()) {
                (true, _) => (word(finding), Ink::Good),
                (_, true) => (word(finding), Ink::Bad),
                _ => (word(finding), Ink::Warn),
            };
            let word = paint(look, ink, &format!("{word:<8}"));
            out += &format!("  +{offset:<6} {:<34} {word} {}\n", plain(&what), plain(&reason(finding)));
        }
        let example = self.findings.iter().find_map(|f| f.needs.first());
        if let Some(need) = example {
            out += &format!("\nAs in: {}\n", plain(&need.command));
        }
        out += &format!("\n{} changes: {}\n", self.findings.len(), self.counts());
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }

    fn suite(&self) -> Option<Suite> {
        let test = |finding: &Finding| {
            let outcome = match (finding.is_needed(), finding.is_not_shown()) {
                (true, _) => Outcome::Passed,
                (_, true) => Outcome::Failed { message: "not shown to be needed".into(), lines: vec![] },
                _ => Outcome::Skipped(reason(finding)),
            };
            let name = format!("{} {} ({})", finding.place, finding.instruction, finding.change);
            Test { class: self.scheme.clone(), name, outcome }
        };
        Some(Suite {
            name: "vmm necessity".into(),
            properties: vec![("host", self.host.to_string()), ("image", self.image.clone())],
            tests: self.findings.iter().map(test).collect(),
        })
    }

    fn page(&self) -> Option<Page> {
        let rows: Vec<Vec<Cell>> = self
            .findings
            .iter()
            .map(|f| {
                let mood = match (f.is_needed(), f.is_not_shown()) {
                    (true, _) => Mood::Good,
                    (_, true) => Mood::Bad,
                    _ => Mood::Warn,
                };
                vec![
                    Cell::text(&f.place),
                    Cell::text(&f.instruction),
                    Cell::text(&f.change),
                    Cell::judged(mood, word(f)),
                    Cell::text(reason(f)),
                ]
            })
            .collect();
        Some(Page {
            title: format!("What each instruction of {} is needed for", self.scheme),
            lead: self.counts(),
            mood: if self.findings.iter().all(Finding::is_needed) { Mood::Good } else { Mood::Warn },
            facts: vec![("host", self.host.to_string()), ("image", self.image.clone()), ("scenarios", self.asked())],
            parts: vec![table("Instructions", &["place", "instruction", "change", "upholds", "without it"], &rows)],
        })
    }
}
