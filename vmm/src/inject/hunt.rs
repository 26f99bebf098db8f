//! A run that does not end: whether it goes round for ever, and where.

use super::session::Session;
use crate::machine::{Error, Raise};
use crate::oracle::{Context, goes_round, out_of_steps};

/// Instructions after which a run that neither ends nor repeats itself is given up.
const HUNT_STEPS: u64 = 200_000;

impl Session {
    /// A run that does not end: steps it until a state comes back, which is a
    /// livelock, or it ends after all. Where the watchdog interrupted it, the host may
    /// merely be slow: it may also come to where it was to stop.
    pub(super) fn hunt(&mut self, interrupted: bool) -> Result<(), Error> {
        let mut anchor = self.state_hash();
        let (mut lap, mut power) = (0u64, 1u64);
        for _ in 0..HUNT_STEPS {
            if self.deliverable() {
                self.deliver(Raise::Ioctl)?;
            } else {
                let iret = self.return_ahead();
                let stop = self.machine.step()?;
                self.observe(&stop, iret);
            }
            let arrived = interrupted && self.stops.contains(&self.machine.rip());
            if arrived || self.oracle.verdict().is_some() {
                return Ok(());
            }
            lap += 1;
            let now = self.state_hash();
            if now == anchor {
                return self.livelock(lap);
            }
            if lap == power {
                (anchor, lap, power) = (now, 0, power * 2);
            }
        }
        self.oracle.conclude(out_of_steps(HUNT_STEPS));
        Ok(())
    }

    /// Goes round a livelock once more, to say where it is.
    fn livelock(&mut self, length: u64) -> Result<(), Error> {
        let mut lowest = self.machine.rip();
        for _ in 0..length {
            self.machine.step()?;
            lowest = lowest.min(self.machine.rip());
        }
        let verdict = goes_round(length, &self.rules().names().show(lowest));
        self.oracle.conclude(verdict);
        Ok(())
    }

    /// A hash of everything that the run's future depends on: machine and ghost.
    pub fn state_hash(&self) -> u128 {
        use std::hash::{Hash, Hasher};
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        Context::of(self.machine.state()).hash(&mut h);
        self.oracle.ghost.hash(&mut h);
        (self.machine.blocked(), self.machine.pending(), self.machine.in_shadow(), self.machine.pv()).hash(&mut h);
        let ram = self.machine.memory().0;
        for page in self.machine.pages() {
            h.write(&ram[*page as usize..*page as usize + 4096]);
        }
        h.digest128()
    }
}
