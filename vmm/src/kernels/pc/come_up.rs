//! The wait for a kernel that boots, until the lab's user program runs on it.

use std::time::{Duration, Instant};

use super::cpu_time::Limit;
use super::{Error, Pc, Stop};

/// Is told, every half second or so, what the boot waits for and the console's last
/// line; `false` ends the boot.
pub type Progress<'a> = &'a mut dyn FnMut(&str, &str) -> bool;

/// How much longer than its CPU time a boot may take by the clock.
const PATIENCE: u32 = 4;

impl Pc {
    /// Runs until the user program has written its checksum twice, for at most `limit` of CPU
    /// time; a kernel that only sleeps has [`PATIENCE`] times as long by the clock.
    ///
    /// A kernel that is not the lab's own has come up at its first heartbeat, or where execution comes
    /// to `place`.
    pub fn boot(&mut self, limit: Duration, place: Option<u64>, progress: Progress) -> Result<(), Error> {
        let start = Instant::now();
        let cpu = Limit::new(limit)?;
        let mut seen = None;
        let expected = self.program.checksum;
        loop {
            let named = place.map(|at| self.symbols.show(at));
            let waits = match (seen, self.devices.console().is_empty()) {
                _ if named.is_some() => named.as_deref().unwrap_or_default(),
                (None, true) if expected.is_some() => "the kernel's first line",
                (None, _) if expected.is_none() => "the kernel's first sign of life",
                (None, _) => "the user program's first heartbeat",
                (Some(_), _) => "the user program's second heartbeat",
            };
            if !progress(waits, &self.console_tail(1)) {
                return Err(Error::Interrupted);
            }
            let why = match self.run(place.as_slice(), Duration::from_millis(500))? {
                Stop::At(_) => return Ok(()),
                Stop::Heartbeat(_) if place.is_some() => continue,
                Stop::Heartbeat(_) if expected.is_none() => return Ok(()),
                Stop::Heartbeat(sum) if expected.is_some_and(|expected| sum != expected) => {
                    let expected = expected.unwrap_or_default();
                    format!("its user program computes {sum:#x}, not {expected:#x}: this host cannot run it")
                }
                Stop::Heartbeat(sum) if seen == Some(sum) => return Ok(()),
                Stop::Heartbeat(sum) => {
                    seen = Some(sum);
                    continue;
                }
                Stop::Budget | Stop::Idle if cpu.is_over()? || start.elapsed() > limit * PATIENCE => {
                    format!(
                        "{} s of CPU time went by while it waited for {waits} (raise the limit, or see where it stands: {})",
                        limit.as_secs(),
                        self.symbols.show(self.rip())
                    )
                }
                Stop::Budget | Stop::Mark | Stop::LdtMark | Stop::Idle => continue,
                other => {
                    let callers = [vec![self.symbols.show(self.rip())], self.callers(4)].concat();
                    format!("{other:?} at {}", callers.join(" < "))
                }
            };
            return Err(Error::Boot { why, console: self.console_tail(12) });
        }
    }
}
