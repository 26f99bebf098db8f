//! How the document of `run`, `replay`, `campaign` and `merge` is shown in each format.

use super::document::{Document, FailureRow, Row};
use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Mood, Page, heading, heat, matrix};

impl Report for Document {
    fn text(&self, look: &Look) -> String {
        super::terminal::terminal(self, look)
    }

    fn json(&self, to: &mut dyn std::io::Write) -> std::io::Result<()> {
        super::json::pretty(self, to)
    }

    fn suite(&self) -> Option<Suite> {
        let name = self.campaign.as_ref().map_or("vmm", |c| c.name.as_str()).to_owned();
        let properties = vec![("host", self.host.to_string()), ("image", self.image.clone())];
        let mut tests: Vec<Test> = self.rows.iter().map(Row::test).collect();
        if let Some(missing) = self.missing() {
            let outcome = match &self.part {
                Some(part) => Outcome::Skipped(format!("{part} was asked for: {missing}")),
                None => Outcome::Failed { message: missing, lines: vec![] },
            };
            tests.push(Test { class: "vmm".into(), name: "complete".into(), outcome });
        }
        Some(Suite { name, properties, tests })
    }

    fn page(&self) -> Option<Page> {
        let s = &self.summary;
        let title = self.campaign.as_ref().map_or("vmm".to_owned(), |c| c.name.clone());
        let rows = if s.expected == 1 { "row" } else { "rows" };
        let mut lead = format!("{} {rows} as expected, {} not", s.expected, s.unexpected);
        for (n, what) in [
            (s.open, "not known yet"),
            (s.host_limit, "not shown by this host (host-limit)"),
            (s.no_cases, "without cases"),
        ] {
            if n > 0 {
                lead += &format!(", {n} {what}");
            }
        }
        lead += &format!("; {} cases.", s.cases);
        if let Some(missing) = self.missing() {
            lead += &format!(" {missing}.");
        }
        let bad = s.unexpected > 0 || s.disagreed > 0 || !self.is_evidence();
        let mut facts = vec![("host", self.host.to_string()), ("image", self.image.clone())];
        if let Some(c) = &self.campaign {
            facts.extend([("about", c.about.clone()), ("cases", c.generate.clone())]);
        }
        let mut parts = vec![matrix(self)];
        if !self.pictures.heat.is_empty() {
            parts.push(heading("heat", "The entry code"));
            parts.extend(self.pictures.heat.iter().map(heat));
        }
        let mood = if bad { Mood::Bad } else { Mood::Good };
        Some(Page { title, lead, mood, facts, parts })
    }
}

impl Row {
    /// The row as a test.
    fn test(&self) -> Test {
        let outcome = match () {
            () if self.as_expected.is_none() && self.host_limited() => {
                Outcome::Skipped("this host cannot show it (host-limit)".into())
            }
            () if self.no_cases() => Outcome::Skipped("no cases were run".into()),
            () if self.as_expected.is_none() => Outcome::Skipped("not all cases were run".into()),
            () if self.as_expected == Some(true) && self.disagreements.is_empty() => Outcome::Passed,
            () => {
                let message = match self.disagreements.len() {
                    0 => format!("{} instead of {}", self.verdict, self.expected),
                    n => format!("gears disagree on {n} schedules"),
                };
                let of = |f: &FailureRow| [f.detail.clone(), format!("vmm replay '{}'", f.replay)];
                Outcome::Failed { message, lines: self.failures.iter().flat_map(of).collect() }
            }
        };
        Test { class: self.scheme.clone(), name: format!("{} ({})", self.scenario, self.mode), outcome }
    }
}
