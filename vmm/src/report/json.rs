//! JSON, as docs/guide/json.md describes it for each command.

use std::io::{self, Write};

use serde::Serialize;

use super::format::{Format, Kind, Look, Report};

/// `--format json`.
pub struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn fits(&self, _: Kind) -> bool {
        true
    }

    fn write(&self, report: &dyn Report, _: &Look, to: &mut dyn Write) -> io::Result<()> {
        report.json(to)
    }
}

/// Writes a value as indented JSON, and a line's end.
pub fn pretty(value: &impl Serialize, to: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, value)?;
    writeln!(to)
}
