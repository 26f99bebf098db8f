//! The time that limits count: what the CPU spent on this thread, in the guest and for it.
//! It stands still while other programs run, so that a busy host changes no verdict.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::Error;

/// CPU time of the calling thread.
pub fn now() -> Result<Duration, Error> {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    Ok(spent.map_err(|_| Error::Host("this host does not say how much CPU time a thread has used"))?.into())
}

/// A span of CPU time that runs out.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    start: Duration,
    most: Duration,
}

impl Limit {
    /// From now on `most`.
    pub fn new(most: Duration) -> Result<Self, Error> {
        Ok(Self { start: now()?, most })
    }

    /// Whether it has run out.
    pub fn is_over(&self) -> Result<bool, Error> {
        Ok(now()?.saturating_sub(self.start) > self.most)
    }
}
