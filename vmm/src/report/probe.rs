//! A host's answers, and several hosts' side by side.

use std::io::{self, Write};

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Cell, Mood, Page, table};
use super::json::pretty;
use crate::probe::{Comparison as Answers, Report as Answered, Row, Status, summary};

/// Columns of text that goes to no terminal.
const WIDTH: u16 = 160;

/// What one host answered.
pub struct ProbeReport(pub Answered);

impl Report for ProbeReport {
    fn text(&self, look: &Look) -> String {
        format!("{}\n{}\n", self.0.table(Some(look.width.unwrap_or(WIDTH))), summary(&self.0))
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(&self.0, to)
    }

    fn suite(&self) -> Option<Suite> {
        let tests = self.0.rows.iter().map(|row| test("probe", row)).collect();
        Some(Suite { name: "vmm probe".into(), properties: vec![("host", self.0.host.to_string())], tests })
    }

    fn page(&self) -> Option<Page> {
        page(std::slice::from_ref(&self.0))
    }
}

fn test(class: &str, row: &Row) -> Test {
    let outcome = match row.status {
        Status::Ok => Outcome::Passed,
        Status::Unknown => Outcome::Skipped(row.detail.clone().unwrap_or_else(|| "unknown".into())),
        Status::Differs => Outcome::Failed {
            message: format!("{} instead of {}", row.answer(), row.right.join(", or ")),
            lines: vec![row.property.clone(), row.source.clone(), row.lab.clone()],
        },
    };
    Test { class: class.to_owned(), name: row.id.clone(), outcome }
}

/// What several hosts answered.
pub struct Comparison {
    /// One for each host.
    pub reports: Vec<Answered>,
    /// The text is Markdown.
    pub markdown: bool,
}

impl Report for Comparison {
    fn text(&self, look: &Look) -> String {
        let answers = Answers::of(&self.reports);
        if self.markdown {
            return answers.markdown() + "\n";
        }
        let mut out = answers.table(Some(look.width.unwrap_or(WIDTH))) + "\n";
        self.reports.iter().for_each(|report| out += &format!("{}\n", summary(report)));
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        let answers = Answers::of(&self.reports);
        let rows: Vec<_> = answers
            .lines()
            .iter()
            .map(|line| {
                let answers: Vec<_> = line.hosts.iter().map(|r| r.and_then(|r| r.answer.as_deref())).collect();
                serde_json::json!({
                    "id": line.row.id, "right": line.row.right, "answers": answers,
                    "differs": line.differs(), "disagrees": line.disagrees(),
                })
            })
            .collect();
        let hosts: Vec<_> = self.reports.iter().map(|r| &r.host).collect();
        pretty(&serde_json::json!({ "hosts": hosts, "rows": rows }), to)
    }

    fn suite(&self) -> Option<Suite> {
        let of = |r: &Answered| {
            let class = format!("{} {}", r.host.kvm, r.host.kernel);
            r.rows.iter().map(|row| test(&class, row)).collect::<Vec<_>>()
        };
        Some(Suite {
            name: "vmm probe".into(),
            properties: self.reports.iter().map(|r| ("host", r.host.to_string())).collect(),
            tests: self.reports.iter().flat_map(of).collect(),
        })
    }

    fn page(&self) -> Option<Page> {
        page(&self.reports)
    }
}

/// Hosts side by side, what deviates first.
fn page(reports: &[Answered]) -> Option<Page> {
    let answers = Answers::of(reports);
    let hosts = answers.hosts();
    let mut header = vec!["property", "architecture"];
    header.extend(hosts.iter().map(String::as_str));
    header.extend(["the lab", "source"]);
    let mut lines = answers.lines();
    lines.sort_by_key(|l| (!l.differs(), !l.disagrees()));
    let row = |line: &crate::probe::Line| {
        let r = line.row;
        let right = if r.right.is_empty() { "any".to_owned() } else { r.right.join(", or ") };
        let mut cells = vec![Cell::text(format!("{}: {}", r.id, r.property)), Cell::text(right)];
        cells.extend(line.hosts.iter().map(|host| match host {
            None => Cell::text("not asked"),
            Some(r) => {
                let mood = match r.status {
                    Status::Ok => Mood::Good,
                    Status::Differs => Mood::Bad,
                    Status::Unknown => Mood::Warn,
                };
                Cell::judged(mood, r.answer())
            }
        }));
        cells.extend([Cell::text(&r.lab), Cell::text(&r.source)]);
        cells
    };
    let differ = reports.iter().map(|r| r.count(Status::Differs)).sum::<usize>();
    Some(Page {
        title: "What KVM does with NMIs".into(),
        lead: format!("{differ} answers are not the architecture's."),
        mood: if differ > 0 { Mood::Warn } else { Mood::Good },
        facts: reports.iter().map(|r| ("host", r.host.to_string())).collect(),
        parts: vec![table("", &header, &lines.iter().map(row).collect::<Vec<_>>())],
    })
}
