//! Memory (I7): nothing outside declared scratch changes, nor does what the work computes.

use std::ops::Range;

use crate::oracle::{Invariant, Oracle, Verdict};

/// What is `now` must be as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oracle) enum Since {
    /// At the delivery of the outermost NMI.
    Interruption,
    /// At the golden run's end.
    GoldenEnd,
}

/// The verdict on a run whose work came to another checksum than without NMIs, whatever the
/// guest.
pub fn wrong_checksum(is: u64, expected: u64) -> Verdict {
    Verdict::breaks(Invariant::Memory, format!("the work's checksum is {is:#x}; without NMIs it is {expected:#x}"))
}

impl Oracle {
    /// Compares the pages that were just copied with those of then, but for what lies in
    /// `dead`: the unused parts of stacks.
    pub(in crate::oracle) fn check_memory(&mut self, since: Since, dead: &[Range<u64>]) {
        let before = match since {
            Since::Interruption => &self.captured,
            Since::GoldenEnd => &self.rules.golden.pages,
        };
        let Some(at) = self.rules.watched.difference(before, &self.now, dead) else { return };
        let (was, is) = (before[at], self.now[at]);
        self.breaks(Invariant::Memory, |r| {
            let place = r.watched.vaddr(at).map_or("?".to_owned(), |v| r.names().show_data(v));
            let when = match since {
                Since::Interruption => "at the interruption",
                Since::GoldenEnd => "at the golden run's end",
            };
            format!("memory outside scratch changed: {place} was {was:#04x} {when}, and is {is:#04x}")
        });
    }

    /// At the scenario's end: the work came to what it comes to without NMIs.
    pub(in crate::oracle) fn check_checksum(&mut self, is: u64) {
        let expected = self.rules.golden.checksum;
        if is != expected {
            self.conclude(wrong_checksum(is, expected));
        }
    }
}
