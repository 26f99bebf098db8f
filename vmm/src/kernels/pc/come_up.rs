//! The wait for a kernel that boots, until the lab's user program runs on it.

use std::time::{Duration, Instant};

use super::{Error, Pc, Stop};
use crate::kernels::linux::user;

/// Is told, every half second or so, what the boot waits for and the console's last
/// line; `false` ends the boot.
pub type Progress<'a> = &'a mut dyn FnMut(&str, &str) -> bool;

impl Pc {
    /// Runs until the user program has written its checksum twice.
    pub fn boot(&mut self, limit: Duration, progress: Progress) -> Result<u32, Error> {
        let start = Instant::now();
        let mut seen = None;
        loop {
            let waits = match (seen, self.devices.console().is_empty()) {
                (None, true) => "the kernel's first line",
                (None, false) => "the user program's first heartbeat",
                (Some(_), _) => "the user program's second heartbeat",
            };
            if !progress(waits, &self.console_tail(1)) {
                return Err(Error::Interrupted);
            }
            let why = match self.run(&[], Duration::from_millis(500))? {
                Stop::Heartbeat(sum) if sum != user::checksum() => {
                    format!("its user program computes {sum:#x}, not {:#x}: this host cannot run it", user::checksum())
                }
                Stop::Heartbeat(sum) if seen == Some(sum) => return Ok(sum),
                Stop::Heartbeat(sum) => {
                    seen = Some(sum);
                    continue;
                }
                Stop::Budget if start.elapsed() > limit => {
                    format!(
                        "{} s went by while it waited for {waits} (raise the limit, or see where it stands: {})",
                        limit.as_secs(),
                        self.symbols.show(self.rip())
                    )
                }
                Stop::Budget | Stop::Mark | Stop::Idle => continue,
                other => {
                    let callers = [vec![self.symbols.show(self.rip())], self.callers(4)].concat();
                    format!("{other:?} at {}", callers.join(" < "))
                }
            };
            return Err(Error::Boot { why, console: self.console_tail(12) });
        }
    }
}
