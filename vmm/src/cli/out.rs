//! Standard output, which may be closed at any time (`vmm list … | head`).

use std::io::{self, BufWriter, ErrorKind, Write};

use super::failure::Failure;

/// Standard output. Once the reader has gone, what is written goes nowhere.
pub struct Out {
    to: BufWriter<io::Stdout>,
    closed: bool,
}

impl Out {
    /// Opens it.
    pub fn new() -> Self {
        Self { to: BufWriter::new(io::stdout()), closed: false }
    }

    /// Writes a text.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.guard(|to| to.write_all(text.as_bytes()))
    }

    /// Writes a text and a line's end.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.guard(|to| writeln!(to, "{text}"))
    }

    /// Writes a value as indented JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        self.guard(|to| {
            serde_json::to_writer_pretty(&mut *to, value)?;
            writeln!(to)
        })
    }

    /// Brings everything out.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.guard(|to| to.flush())
    }

    fn guard(&mut self, write: impl FnOnce(&mut BufWriter<io::Stdout>) -> io::Result<()>) -> Result<(), Failure> {
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
