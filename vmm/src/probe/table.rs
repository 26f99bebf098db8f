//! Reports as text.

use comfy_table::{Cell, ContentArrangement, Table, TableStyle, presets};

use super::compare::Comparison;
use super::report::{Report, Row, Status};

impl Report {
    /// The report as a table for a terminal, or of this width.
    pub fn table(&self, width: Option<u16>) -> String {
        let mut table = new(presets::UTF8_HORIZONTAL_ONLY, width);
        table.set_header(["", "property", "architecture", "this host", "the lab"]);
        for r in &self.rows {
            let right = format!("{}\n({})", allowed(r), r.source);
            table.add_row([mark(r.status), &format!("{}\n{}", r.id, r.property), &right, &answer(r), &r.lab]);
        }
        table.to_string()
    }
}

impl Comparison<'_> {
    /// The hosts side by side, for a terminal, or of this width.
    pub fn table(&self, width: Option<u16>) -> String {
        self.fill(new(presets::UTF8_HORIZONTAL_ONLY, width), |row| format!("{}\n{}", row.id, row.property))
    }

    /// The same in Markdown.
    pub fn markdown(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        self.fill(table, |row| format!("`{}` {}", row.id, row.property))
    }

    fn fill(&self, mut table: Table, property: fn(&Row) -> String) -> String {
        let mut header = vec!["".to_owned(), "property".into(), "architecture".into()];
        header.extend(self.hosts());
        table.set_header(header);
        for line in self.lines() {
            let mark = if line.differs() || line.disagrees() { "≠" } else { "" };
            let mut cells = vec![Cell::new(mark), Cell::new(property(line.row)), Cell::new(allowed(line.row))];
            cells.extend(line.hosts.iter().map(|r| Cell::new(r.map_or("-".into(), short))));
            table.add_row(cells);
        }
        table.to_string()
    }
}

/// One line about a report.
pub fn summary(report: &Report) -> String {
    format!(
        "host {}: {} as the architecture says, {} not, {} unknown",
        report.host,
        report.count(Status::Ok),
        report.count(Status::Differs),
        report.count(Status::Unknown)
    )
}

fn new(style: TableStyle, width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    table
}

fn mark(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Differs => "differs",
        Status::Unknown => "unknown",
    }
}

fn allowed(row: &Row) -> String {
    if row.right.is_empty() { "any".into() } else { row.right.join(", or ") }
}

fn answer(row: &Row) -> String {
    match &row.detail {
        Some(detail) => format!("{}\n{detail}", row.answer()),
        None => row.answer().into(),
    }
}

/// The answer, marked where it is not the architecture's.
fn short(row: &Row) -> String {
    match row.status {
        Status::Differs => format!("✗ {}", row.answer()),
        _ => row.answer().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{report, row};
    use super::*;

    #[test]
    fn markdown_marks_what_differs() {
        let reports = [
            report("kvm_amd", vec![row("a", &["1"], Some("1"))]),
            report("kvm_intel", vec![row("a", &["1"], Some("2"))]),
        ];
        let text = Comparison::of(&reports).markdown();
        assert!(text.lines().last().is_some_and(|l| l.starts_with("| ≠ ") && l.contains("| `a` ")), "{text}");
    }

    #[test]
    fn the_summary_counts() {
        let r = report("kvm_amd", vec![row("a", &[], Some("1")), row("b", &[], None)]);
        assert!(summary(&r).ends_with("1 as the architecture says, 0 not, 1 unknown"), "{}", summary(&r));
    }
}
