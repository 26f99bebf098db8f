//! Standard output and standard error, either of which may be closed, full or gone at any
//! time. Nothing else in the program prints, and nothing here panics.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

use super::failure::Failure;
use crate::report::plain;

/// Standard output. Once the reader has gone (`vmm list … | head`), what is written goes
/// nowhere.
pub struct Out {
    to: BufWriter<io::Stdout>,
    closed: bool,
}

impl Out {
    /// Standard output, buffered.
    pub fn new() -> Self {
        Self { to: BufWriter::new(io::stdout()), closed: false }
    }

    /// Writes a text.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.with(|to| to.write_all(text.as_bytes()))
    }

    /// Writes a text and a line's end.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.with(|to| writeln!(to, "{text}"))
    }

    /// Brings everything out.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.with(|to| to.flush())
    }

    /// Has something written.
    pub fn with(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        match write(&mut self.to) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => self.closed = true,
            Err(why) => return Err(Failure::Write { what: "standard output".into(), why }),
            Ok(()) => {}
        }
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        // What BufWriter still holds would be written at its drop, and fail silently.
        let _ = self.flush();
    }
}

/// Says something on standard error, in a line that begins with `vmm: `; further lines, such as
/// the last ones of a kernel's console, are marked as quoted. Where that cannot be written, nobody
/// is there to be told: the exit code alone says how the work ended.
pub fn say(text: impl std::fmt::Display) {
    let text = text.to_string();
    let lines: Vec<_> = text.trim_end().split('\n').map(plain).collect();
    let said = format!("vmm: {}\n", lines.join("\n   | "));
    let _ = io::stderr().write_all(said.as_bytes());
}

/// Says something on standard error where that is a terminal.
pub fn whisper(text: impl std::fmt::Display) {
    if io::stderr().is_terminal() {
        say(text);
    }
}
