//! The wait for a kernel that boots, until the lab's user program runs on it, or until its end.

use std::time::{Duration, Instant};

use super::cpu_time::Limit;
use super::{Error, Pc, Stop};

/// Is told, every half second or so, what the boot waits for and the console's last
/// line; `false` ends the boot.
pub type Progress<'a> = &'a mut dyn FnMut(&str, &str) -> bool;

/// How much longer than its CPU time a boot may take by the clock.
const PATIENCE: u32 = 4;

impl Pc {
    /// Runs until the kernel writes to the exit port, for at most `limit` of CPU time; returns what it
    /// wrote. A kernel that only sleeps has [`PATIENCE`] times as long by the clock.
    pub fn run_to_exit(&mut self, limit: Duration, progress: Progress) -> Result<u32, Error> {
        let start = Instant::now();
        let cpu = Limit::new(limit)?;
        loop {
            if !progress("the exit port", &self.console_tail(1)) {
                return Err(Error::Interrupted);
            }
            let why = match self.run(&[], Duration::from_millis(500))? {
                Stop::Exited(value) => return Ok(value),
                Stop::Budget | Stop::Idle if cpu.is_over()? || start.elapsed() > limit * PATIENCE => {
                    let at = self.symbols.show(self.rip());
                    format!("it has not written to the exit port after {} s of CPU time, at {at}", limit.as_secs())
                }
                Stop::Budget | Stop::Idle | Stop::Mark | Stop::LdtMark | Stop::Heartbeat(_) => continue,
                other => format!("{other:?} at {}", self.symbols.show(self.rip())),
            };
            return Err(Error::Boot { why, console: self.console_tail(12) });
        }
    }

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
            let waits = match (&named, expected, seen) {
                (Some(named), ..) => named,
                (_, None, _) => "the kernel's first sign of life",
                (_, _, Some(_)) => "the user program's second heartbeat",
                _ if self.devices.console().is_empty() => "the kernel's first line",
                _ => "the user program's first heartbeat",
            };
            if !progress(waits, &self.console_tail(1)) {
                return Err(Error::Interrupted);
            }
            let why = match self.run(place.as_slice(), Duration::from_millis(500))? {
                Stop::At(_) => return Ok(()),
                Stop::Heartbeat(_) if place.is_some() => continue,
                Stop::Heartbeat(sum) => match expected {
                    Some(expected) if sum != expected => {
                        format!("its user program computes {sum:#x}, not {expected:#x}: this host cannot run it")
                    }
                    Some(_) if seen.is_none() => {
                        seen = Some(sum);
                        continue;
                    }
                    _ => return Ok(()),
                },
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
