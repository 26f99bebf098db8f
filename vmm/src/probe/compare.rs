//! Several hosts' answers side by side.

use super::report::{Report, Row, Status};

/// One property on several hosts.
pub struct Line<'a> {
    /// The property, from the first report that has it.
    pub row: &'a Row,
    /// Each host's row.
    pub hosts: Vec<Option<&'a Row>>,
}

impl Line<'_> {
    /// Whether not all hosts answer alike.
    pub fn disagrees(&self) -> bool {
        let mut answers = self.hosts.iter().map(|r| r.map(Row::answer));
        let first = answers.next();
        answers.any(|a| Some(a) != first)
    }

    /// Whether a host's answer is not the architecture's.
    pub fn differs(&self) -> bool {
        self.hosts.iter().flatten().any(|r| r.status == Status::Differs)
    }
}

/// Reports side by side.
pub struct Comparison<'a> {
    reports: &'a [Report],
}

impl<'a> Comparison<'a> {
    /// Compares reports.
    pub fn of(reports: &'a [Report]) -> Self {
        Self { reports }
    }

    /// The hosts' names: module and kernel.
    pub fn hosts(&self) -> Vec<String> {
        self.reports.iter().map(|r| format!("{} {}", r.host.kvm, r.host.kernel)).collect()
    }

    /// One line per property that any report has, in the order of the first.
    pub fn lines(&self) -> Vec<Line<'a>> {
        let mut lines: Vec<Line> = Vec::new();
        for row in self.reports.iter().flat_map(|r| &r.rows) {
            if lines.iter().any(|l| l.row.id == row.id) {
                continue;
            }
            let hosts = self.reports.iter().map(|r| r.rows.iter().find(|other| other.id == row.id)).collect();
            lines.push(Line { row, hosts });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{report, row};
    use super::*;

    #[test]
    fn rows_are_matched_by_id() {
        let reports = [
            report("kvm_amd", vec![row("a", &[], Some("1")), row("b", &[], Some("1"))]),
            report("kvm_intel", vec![row("b", &[], Some("2")), row("c", &[], None), row("a", &[], Some("1"))]),
        ];
        let comparison = Comparison::of(&reports);
        assert_eq!(comparison.hosts(), ["kvm_amd 6.1", "kvm_intel 6.1"]);
        let lines = comparison.lines();
        let told: Vec<_> = lines.iter().map(|l| (l.row.id.as_str(), l.disagrees())).collect();
        assert_eq!(told, [("a", false), ("b", true), ("c", true)]);
        assert!(lines[2].hosts[0].is_none());
    }
}
