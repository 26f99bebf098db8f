//! A trace: each instruction of a run with what it changed.

use std::fmt::Write;

use serde::Serialize;

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Step {
    /// An instruction was executed, or raised an exception.
    Instruction {
        /// Number in the run, from 1.
        number: u64,
        /// The boundary before it, as `label+0x4#2`.
        at: String,
        /// Its address.
        address: String,
        /// NMIs were blocked there.
        blocked: bool,
        /// An NMI was pending there.
        pending: bool,
        /// The boundary lies in a one-instruction shadow.
        shadow: bool,
        /// NMIs delivered and not returned from.
        depth: u32,
        /// NMI bodies under way.
        bodies: u8,
        /// In AT&T syntax.
        text: String,
        /// `file:line`, or `-`, where the image has DWARF.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// The registers that it changed, with their new values.
        changed: Vec<(&'static str, String)>,
        /// It is a call, a return or a trap.
        #[serde(skip)]
        transfers: bool,
    },
    /// Something that is no instruction: an arrival, a delivery, an exception.
    Event {
        /// What happened.
        what: String,
    },
}

/// Widths of the columns of boundary and instruction.
const PLACE: usize = 44;
const TEXT: usize = 32;
const SOURCE: usize = 24;

/// The header over the columns of [`Step`]'s lines; `source` where the image has DWARF.
pub fn header(source: bool) -> String {
    let source = if source { format!("{:SOURCE$} ", "SOURCE") } else { String::new() };
    format!(
        "{:>6} {:2} {:2} {:5} {:PLACE$} {:TEXT$} {source}CHANGED",
        "STEP", "B", "P", "DEPTH", "BOUNDARY", "INSTRUCTION"
    )
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Event { what } => write!(f, "{:>6} ** {what}", ""),
            Step::Instruction {
                number, at, blocked, pending, shadow, depth, bodies, text, source, changed, ..
            } => {
                let flag = |on: bool, c: char| if on { c } else { '.' };
                let blocked = if *shadow { 's' } else { flag(*blocked, 'B') };
                let depth = format!("{depth}{}", "+".repeat(usize::from(*bodies)));
                let mut line =
                    format!("{number:>6} {blocked:2} {:2} {depth:5} {at:PLACE$} {text:TEXT$}", flag(*pending, 'P'));
                if let Some(source) = source {
                    let _ = write!(line, " {source:SOURCE$}");
                }
                for (name, value) in changed {
                    let _ = write!(line, " {name}={value}");
                }
                f.write_str(line.trim_end())
            }
        }
    }
}
