//! What a report is, and what a format is that any report can be written in.

use std::io::{self, Write};

use super::html::page::Page;

/// What a command has to say. Every format is made of this.
pub trait Report {
    /// For a reader at a terminal.
    fn text(&self, look: &Look) -> String;
    /// As indented JSON.
    fn json(&self, to: &mut dyn Write) -> io::Result<()>;
    /// The verdicts, as tests that pass or fail; `None` for a command that judges nothing.
    fn suite(&self) -> Option<Suite> {
        None
    }
    /// As a page for a browser; `None` where there is nothing to look at.
    fn page(&self) -> Option<Page> {
        None
    }
}

/// How text may look where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal; `None` where the text goes to a file or a pipe.
    pub width: Option<u16>,
    /// Colours may be used.
    pub colour: bool,
}

/// Verdicts as tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// What was tested.
    pub name: String,
    /// The host, the image and the like.
    pub properties: Vec<(&'static str, String)>,
    /// One for each verdict.
    pub tests: Vec<Test>,
}

/// One verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// The scheme, or what groups tests otherwise.
    pub class: String,
    /// What tells it from the others of its class.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed {
        /// What was found, and what was expected.
        message: String,
        /// Details, and how to see it again.
        lines: Vec<String>,
    },
    /// Nothing can be said, and why.
    Skipped(String),
}

impl Outcome {
    /// `Passed`, or `Failed` with this message and without details.
    pub fn of(passed: bool, message: impl FnOnce() -> String) -> Self {
        if passed { Outcome::Passed } else { Outcome::Failed { message: message(), lines: vec![] } }
    }
}

/// A way to write a report.
pub trait Format: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// Whether a report has what this format needs.
    fn fits(&self, kind: Kind) -> bool;
    /// Writes a report. One that does not fit is written as an empty one.
    fn write(&self, report: &dyn Report, look: &Look, to: &mut dyn Write) -> io::Result<()>;
}

/// What the report of a command will have, as is known before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// It has verdicts: [`Report::suite`].
    pub judges: bool,
    /// It has a page: [`Report::page`].
    pub page: bool,
}

impl Kind {
    /// A command that judges, and whose results can be looked at.
    pub const JUDGES: Kind = Kind { judges: true, page: true };
    /// A command that measures or lists.
    pub const TELLS: Kind = Kind { judges: false, page: false };
}

impl std::fmt::Debug for dyn Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
