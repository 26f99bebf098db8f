//! JUnit XML: each verdict a test case, for CI systems.

use std::io::{self, Write};

use super::format::{Format, Kind, Look, Outcome, Report, Suite, Test};
use super::plain::plain;

/// `--format junit`.
pub struct Junit;

impl Format for Junit {
    fn name(&self) -> &'static str {
        "junit"
    }

    fn fits(&self, kind: Kind) -> bool {
        kind.judges
    }

    fn write(&self, report: &dyn Report, _: &Look, to: &mut dyn Write) -> io::Result<()> {
        report.suite().map_or(Ok(()), |suite| junit(&suite, to))
    }
}

/// The report as one test suite.
fn junit(suite: &Suite, to: &mut dyn Write) -> io::Result<()> {
    let count = |is: fn(&Outcome) -> bool| suite.tests.iter().filter(|t| is(&t.outcome)).count();
    let failures = count(|o| matches!(o, Outcome::Failed { .. }));
    let skipped = count(|o| matches!(o, Outcome::Skipped(_)));
    writeln!(to, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        to,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\" errors=\"0\">",
        escape(&suite.name),
        suite.tests.len()
    )?;
    writeln!(to, "  <properties>")?;
    for (key, value) in &suite.properties {
        writeln!(to, "    <property name=\"{key}\" value=\"{}\"/>", escape(value))?;
    }
    writeln!(to, "  </properties>")?;
    suite.tests.iter().try_for_each(|test| case(to, test))?;
    writeln!(to, "</testsuite>")
}

fn case(to: &mut dyn Write, test: &Test) -> io::Result<()> {
    write!(to, "  <testcase classname=\"{}\" name=\"{}\"", escape(&test.class), escape(&test.name))?;
    match &test.outcome {
        Outcome::Passed => writeln!(to, "/>"),
        Outcome::Skipped(why) => writeln!(to, "><skipped message=\"{}\"/></testcase>", escape(why)),
        Outcome::Failed { message, lines } => {
            writeln!(to, ">\n    <failure message=\"{}\">", escape(message))?;
            for line in lines {
                writeln!(to, "{}", escape(line))?;
            }
            writeln!(to, "    </failure>\n  </testcase>")
        }
    }
}

fn escape(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
