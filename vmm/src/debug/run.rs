//! What a run is to the server: a log of what has happened in it, and a machine that can be put at
//! any moment of it.

use super::Error;
use super::access::Access;
use super::event::{Event, What};
use crate::cpu::Lazy;
use crate::inject::{At, Kind};
use crate::kvm::VcpuState;
use crate::oracle::Verdict;

/// A recorded run, at one of its moments. A *move* is one instruction, or the delivery of an NMI; a
/// *moment* is the boundary after so many moves, with all that arrives there arrived.
pub trait Run {
    /// What was recorded.
    fn log(&self) -> &Log;
    /// What the run comes to.
    fn verdict(&self) -> &Verdict;
    /// The event of the schedule that the run ended without, in words.
    fn missed(&self) -> Option<&str>;
    /// Puts the machine at a moment.
    fn go(&mut self, to: usize) -> Result<(), Error>;
    /// Something arrives at the present boundary, too. What comes after it is recorded anew.
    /// Returns what it does there, in words; `None` where the run has ended, and nothing can
    /// arrive.
    fn inject(&mut self, kind: Kind) -> Result<Option<String>, Error>;
    /// Registers and events.
    fn vcpu(&self) -> &VcpuState;
    /// Debug, vector and model-specific registers.
    fn lazy(&self) -> Result<Lazy, Error>;
    /// Reads bytes by their virtual address; `false` where a page is not mapped.
    fn read(&self, addr: u64, out: &mut [u8]) -> bool;
    /// Where bytes lie now in physical memory: one piece for each page that is mapped.
    fn physical(&self, addr: u64, len: u64) -> Vec<(u64, u32)>;
    /// How an address is written in a schedule.
    fn show(&self, addr: u64) -> String;
    /// What `monitor state` says besides, in lines.
    fn nmis(&self) -> String;
    /// The command that runs it again.
    fn again(&self) -> String;
    /// The code as an ELF file, with all symbols.
    fn file(&self) -> Vec<u8>;
}

/// What was recorded of a run.
#[derive(Default)]
pub struct Log {
    /// RIP at each moment.
    pub places: Vec<u64>,
    /// What was accessed, by ascending move.
    pub accesses: Vec<Access>,
    /// What happened, by ascending moment.
    pub events: Vec<Event>,
    /// The present moment: moves since the first.
    pub now: usize,
}

impl Log {
    /// The last moment: that of the verdict.
    pub fn end(&self) -> usize {
        self.places.len().saturating_sub(1)
    }

    /// The present boundary, as schedules name it.
    pub fn boundary(&self) -> At {
        let addr = self.places[self.now];
        At { addr, n: self.places[..=self.now].iter().filter(|at| **at == addr).count() as u32 }
    }

    /// Something had happened after so many moves.
    pub fn tell(&mut self, after: usize, texts: impl IntoIterator<Item = String>) {
        self.tell_of(after, texts.into_iter().map(|text| (What::Other, text)));
    }

    /// The same, of things whose sort is known.
    pub fn tell_of(&mut self, after: usize, told: impl IntoIterator<Item = (What, String)>) {
        self.events.extend(told.into_iter().map(|(what, text)| Event { after, what, text }));
    }

    /// Forgets all that comes after the present moment.
    pub fn forget(&mut self) {
        let now = self.now;
        self.places.truncate(now + 1);
        self.accesses.truncate(self.accesses.partition_point(|a| a.by < now));
        self.events.truncate(self.events.partition_point(|e| e.after <= now));
    }
}
