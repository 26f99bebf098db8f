//! JUnit XML: each scheme and scenario a test case, for CI systems.

use std::fmt::Write;

use super::document::{Document, Row};

/// The report as one test suite.
pub fn junit(document: &Document) -> String {
    let name = document.campaign.as_ref().map_or("vmm", |c| c.name.as_str());
    let failures = document.rows.iter().filter(|r| failed(r)).count();
    let skipped = document.rows.iter().filter(|r| r.as_expected.is_none()).count();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\" errors=\"0\">",
        escape(name),
        document.rows.len()
    );
    let _ = writeln!(out, "  <properties>");
    for (key, value) in [("host", document.host.to_string()), ("image", document.image.clone())] {
        let _ = writeln!(out, "    <property name=\"{key}\" value=\"{}\"/>", escape(&value));
    }
    let _ = writeln!(out, "  </properties>");
    for row in &document.rows {
        case(&mut out, row);
    }
    out.push_str("</testsuite>\n");
    out
}

fn failed(row: &Row) -> bool {
    row.as_expected == Some(false) || !row.disagreements.is_empty()
}

fn case(out: &mut String, row: &Row) {
    let (class, name) = (escape(&row.scheme), escape(&format!("{} ({})", row.scenario, row.mode)));
    let _ = write!(out, "  <testcase classname=\"{class}\" name=\"{name}\"");
    if row.as_expected.is_none() {
        let why = if row.host_limited() { "this host cannot show it (host-limit)" } else { "not all cases were run" };
        let _ = writeln!(out, "><skipped message=\"{why}\"/></testcase>");
    } else if failed(row) {
        let message = match row.disagreements.len() {
            0 => format!("{} instead of {}", row.verdict, row.expected),
            n => format!("gears disagree on {n} schedules"),
        };
        let _ = writeln!(out, ">\n    <failure message=\"{}\">", escape(&message));
        for f in &row.failures {
            let _ = writeln!(out, "{}\nvmm replay '{}'", escape(&f.detail), escape(&f.replay));
        }
        let _ = writeln!(out, "    </failure>\n  </testcase>");
    } else {
        let _ = writeln!(out, "/>");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
