//! Progress where nobody looks at a terminal: in a log, a line now and then.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::TermLike;

use super::out::say;

/// How often.
pub const EVERY: Duration = Duration::from_secs(10);

/// Columns of a line.
const WIDTH: u16 = 100;

/// Takes what a bar draws, and says it as a line when its time has come. Work that takes less than
/// that says nothing.
#[derive(Debug)]
pub struct Lines(Mutex<Drawn>);

#[derive(Debug)]
struct Drawn {
    text: String,
    last: Instant,
}

impl Default for Lines {
    fn default() -> Self {
        Self(Mutex::new(Drawn { text: String::new(), last: Instant::now() }))
    }
}

impl Lines {
    fn drawn(&self) -> std::sync::MutexGuard<'_, Drawn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Lines {
    fn width(&self) -> u16 {
        WIDTH
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.drawn().text.push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.drawn().text.clear();
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawn = self.drawn();
        let text = std::mem::take(&mut drawn.text);
        if drawn.last.elapsed() >= EVERY && !text.trim().is_empty() {
            drawn.last = Instant::now();
            say(text.trim());
        }
        Ok(())
    }
}
