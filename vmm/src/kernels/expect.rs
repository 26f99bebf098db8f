//! What the architecture expects of an NMI at a boundary, and why.

use std::fmt;

use super::error::LabError;
use super::lab::Lab;
use super::path::Visit;
use crate::inject::{Event, Kind};

/// What is to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is latched while NMIs are blocked, and comes after the iretq that unblocks
    /// them: anything but a pass is a defect.
    Latched,
    /// It comes at once, after the hardware's frame was used up: anything but a pass is
    /// a defect of the entry code.
    Nested,
    /// It comes at once, since the kernel's own code has unblocked NMIs: anything but a pass is a
    /// defect.
    Own,
    /// It comes at once, and the CPU writes its frame over the one that this NMI's code
    /// is still to read: no entry code can survive that (an IST always starts at its
    /// top). The address is that of the last reader.
    Overwrites(u64),
    /// The same of the word beneath that frame, into which any entry code must save a
    /// register before it can look about, always at the same place.
    OverwritesSave(u64),
    /// The handler faults where it has saved CR2, and will put it back: anything but a pass is
    /// a defect.
    Faults,
    /// A fault that no handler promises to survive: CR2 is not saved yet, or is already put
    /// back, or it is the fault's own handler that faults.
    FaultsUnsaved,
}

impl Expected {
    /// For an NMI that arrives at `visit`, where something unblocked NMIs before or not.
    pub fn of(visit: &Visit, unmasked: bool) -> Self {
        match (visit.frame_read_at, visit.save_read_at) {
            _ if visit.blocked && !unmasked => Expected::Latched,
            (Some(reader), _) => Expected::Overwrites(reader),
            (None, Some(reader)) => Expected::OverwritesSave(reader),
            (None, None) => Expected::Nested,
        }
    }

    /// For an NMI that arrives at `visit` where nothing from outside has unblocked NMIs: where they
    /// are not blocked, the kernel's own code has unblocked them, and must stand what then comes.
    pub fn alone(visit: &Visit) -> Self {
        if visit.blocked { Expected::Latched } else { Expected::Own }
    }

    /// For a fault of the instruction at `visit`.
    pub fn of_fault(visit: &Visit) -> Self {
        match visit.saved_cr2 && visit.frame_read_at.is_none() {
            true => Expected::Faults,
            false => Expected::FaultsUnsaved,
        }
    }

    /// `pass` or `any`, and why.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Expected::Latched => ("pass", "the CPU keeps it until the unblocking iretq"),
            Expected::Nested => ("pass", "the hardware frame is no longer needed"),
            Expected::Own => ("pass", "the kernel's own code has unblocked NMIs"),
            Expected::Overwrites(_) => ("any", "it overwrites a frame still to be read"),
            Expected::OverwritesSave(_) => ("any", "it overwrites the entry's first save, still to be read"),
            Expected::Faults => ("pass", "CR2 is saved, and no frame is still to be read"),
            Expected::FaultsUnsaved => ("any", "CR2 is not saved there, so that no fault may come"),
        }
    }

    /// Whether the kernel must survive.
    pub fn survives(self) -> bool {
        matches!(self, Expected::Latched | Expected::Nested | Expected::Own | Expected::Faults)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, why) = self.words();
        write!(f, "{word}: {why}")
    }
}

impl Lab {
    /// What is to be expected of a schedule: that the kernel survives, unless one of its NMIs
    /// comes where no kernel can. Sweeps, schedules and replays are judged by this alike.
    pub fn expected(&mut self, events: &[Event]) -> Result<Expected, LabError> {
        let later = events.iter().enumerate().filter(|(_, e)| e.kind != Kind::Unmask).skip(1);
        let mut all = Expected::Nested;
        for (i, event) in later {
            let unmasked = event.kind == Kind::Nmi
                && events[..i].last().is_some_and(|e| e.kind == Kind::Unmask && e.at == event.at);
            let before = &events[..i - usize::from(unmasked)];
            let path = match self.walk(before) {
                Ok(path) => path,
                // What came before must be survived, and is not.
                Err(LabError::Single(..)) => return Ok(all),
                Err(e) => return Err(e),
            };
            let Some(visit) = path.visits.iter().find(|v| v.at == event.at) else { return Ok(all) };
            all = match event.kind {
                Kind::Fault => Expected::of_fault(visit),
                _ if events[..i].iter().all(|e| e.kind == Kind::Nmi) => Expected::alone(visit),
                _ => Expected::of(visit, unmasked),
            };
            if !all.survives() {
                break;
            }
        }
        Ok(all)
    }
}
