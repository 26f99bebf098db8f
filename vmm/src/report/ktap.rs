//! KTAP, version 1: the format of the kernel's own tests (Documentation/dev-tools/ktap.rst).

use std::io::{self, Write};

use super::format::{Format, Kind, Look, Outcome, Report, Suite, Test};
use super::plain::plain;

/// `--format ktap`.
pub struct Ktap;

impl Format for Ktap {
    fn name(&self) -> &'static str {
        "ktap"
    }

    fn fits(&self, kind: Kind) -> bool {
        kind.judges
    }

    fn write(&self, report: &dyn Report, _: &Look, to: &mut dyn Write) -> io::Result<()> {
        report.suite().map_or(Ok(()), |suite| ktap(&suite, to))
    }
}

/// One test, whose subtests are the verdicts: as KUnit prints a suite.
fn ktap(suite: &Suite, to: &mut dyn Write) -> io::Result<()> {
    let name = escape(&suite.name);
    writeln!(to, "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: {name}")?;
    for (key, value) in &suite.properties {
        writeln!(to, "    # {key}: {}", plain(value))?;
    }
    writeln!(to, "    1..{}", suite.tests.len())?;
    for (i, test) in suite.tests.iter().enumerate() {
        line(to, i + 1, test)?;
    }
    let is = |what: fn(&Outcome) -> bool| suite.tests.iter().any(|t| what(&t.outcome));
    let all_skipped = !is(|o| !matches!(o, Outcome::Skipped(_)));
    match () {
        () if is(|o| matches!(o, Outcome::Failed { .. })) => writeln!(to, "not ok 1 {name}"),
        () if all_skipped => writeln!(to, "ok 1 {name} # SKIP no verdict"),
        () => writeln!(to, "ok 1 {name}"),
    }
}

fn line(to: &mut dyn Write, number: usize, test: &Test) -> io::Result<()> {
    let name = format!("{} / {}", escape(&test.class), escape(&test.name));
    match &test.outcome {
        Outcome::Passed => writeln!(to, "    ok {number} {name}"),
        Outcome::Skipped(why) => writeln!(to, "    ok {number} {name} # SKIP {}", plain(why)),
        Outcome::Failed { message, lines } => {
            writeln!(to, "    # {}", plain(message))?;
            for line in lines {
                writeln!(to, "    # {}", plain(line))?;
            }
            writeln!(to, "    not ok {number} {name}")
        }
    }
}

/// In a description, `#` would begin a directive.
fn escape(text: &str) -> String {
    plain(text).replace('#', "\\#")
}
