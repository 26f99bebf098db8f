//! The way from the first instruction to *ready*, and all that can go wrong on it.

use guest::abi;

use super::error::Error;
use super::lab::Machine;
use super::pv::Outcome;
use super::stop::Stop;

/// Interruptions by the watchdog (each after its limit of 300 ms) until a boot is
/// taken to have no end.
const BOOT_PATIENCE: u32 = 10;
/// PV hypercalls that a boot may make.
const BOOT_CALLS: u32 = 1000;

impl Machine {
    /// Runs to *ready*.
    pub(super) fn run_to_ready(&mut self) -> Result<(), Error> {
        let (mut calls, mut patience) = (0, BOOT_PATIENCE);
        loop {
            let stop = self.resume()?;
            let at = self.place(self.rip());
            let why = match stop {
                Stop::Hypercall(abi::PORT_READY) => return Ok(()),
                Stop::Pv(Outcome::Returned) if calls < BOOT_CALLS => {
                    calls += 1;
                    continue;
                }
                Stop::Interrupted if patience > 0 => {
                    patience -= 1;
                    continue;
                }
                Stop::Pv(Outcome::Returned) => format!("it makes PV hypercalls without end, at {at}"),
                Stop::Pv(Outcome::Crashed(why)) => format!("{why}, at {at}"),
                Stop::Pv(other) => format!("a PV hypercall before ready: {other:?}"),
                Stop::Hypercall(abi::PORT_PANIC) => format!("it panicked: {}", self.panic_message()),
                Stop::Hypercall(port) => format!("it made hypercall {port:#x} first, at {at}"),
                Stop::Interrupted => format!("it runs without end at {at}"),
                Stop::Shutdown => {
                    format!("a fault that it cannot handle (triple fault); the last known place is {at}")
                }
                Stop::Halt | Stop::Undeclared(_) => format!("it halted at {at}"),
                Stop::Failed(why) => format!("{why}, at {at}"),
                Stop::Boundary | Stop::Lost => format!("it stopped at {at}"),
            };
            return Err(Error::NotReady(why));
        }
    }
}
