//! Schedules: which events arrive, at which boundaries, as one line of text.

use std::fmt::Write;

use super::event::{Kind, UnknownEvent};
use crate::image::{Names, PlaceError};

/// A boundary: the n-th time execution stands at `addr`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Virtual address of the instruction that comes next.
    pub addr: u64,
    /// The visit, from 1.
    pub n: u32,
}

/// Something arrives at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// What arrives.
    pub kind: Kind,
    /// The boundary that it arrives at.
    pub at: At,
}

/// A finite list of events. Those at one boundary arrive in the order of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Schedule(pub Vec<Event>);

/// A schedule that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// An event without a place.
    #[error("{0:?}: an event is written nmi@PLACE, unmask@PLACE, mce@PLACE or irq@PLACE, as in nmi@exit_iret#1")]
    Form(String),
    /// An unknown event.
    #[error(transparent)]
    Kind(#[from] UnknownEvent),
    /// An event that only a real kernel can be given.
    #[error(
        "{0}@…: the lab's scenarios raise faults of their own; only a real kernel's handler can be made to fault (vmm linux)"
    )]
    OnlyInKernels(Kind),
    /// An event that only the lab's scenarios can be given.
    #[error(
        "{0}@…: machine checks and interrupts are played in the lab's own scenarios only; a real kernel gets nmi, unmask and fault"
    )]
    OnlyInScenarios(Kind),
    /// A bad occurrence.
    #[error("{0:?}: what follows # must be a number from 1 on")]
    Occurrence(String),
    /// A bad place.
    #[error("{event:?}: {why}")]
    Place {
        /// The event as written.
        event: String,
        /// What is wrong with its place.
        why: PlaceError,
    },
}

impl Schedule {
    /// Reads `nmi@first+0x10#1 unmask@copy_frame` (without `#n`, the first visit).
    /// Events are separated by spaces or commas.
    pub fn parse(text: &str, names: Names) -> Result<Self, ScheduleError> {
        let schedule = Self::read(text, |place| names.resolve(place))?;
        match schedule.0.iter().find(|e| !Kind::IN_SCENARIOS.contains(&e.kind)) {
            Some(event) => Err(ScheduleError::OnlyInKernels(event.kind)),
            None => Ok(schedule),
        }
    }

    /// The same for a real kernel, where `resolve` knows what the places are.
    pub fn parse_for_kernel(
        text: &str,
        resolve: impl Fn(&str) -> Result<u64, PlaceError>,
    ) -> Result<Self, ScheduleError> {
        let schedule = Self::read(text, resolve)?;
        match schedule.0.iter().find(|e| !Kind::IN_KERNELS.contains(&e.kind)) {
            Some(event) => Err(ScheduleError::OnlyInScenarios(event.kind)),
            None => Ok(schedule),
        }
    }

    fn read(text: &str, resolve: impl Fn(&str) -> Result<u64, PlaceError>) -> Result<Self, ScheduleError> {
        let words = text.split([' ', ',', '\t', '\n']).filter(|w| !w.is_empty());
        words.map(|word| parse_event(word, &resolve)).collect::<Result<_, _>>().map(Self)
    }

    /// The same text again, with labels and offsets.
    pub fn show(&self, names: Names) -> String {
        self.show_with(|addr| names.show(addr))
    }

    /// The same, where `show` knows what the places are called.
    pub fn show_with(&self, show: impl Fn(u64) -> String) -> String {
        let mut out = String::new();
        for Event { kind, at } in &self.0 {
            let space = if out.is_empty() { "" } else { " " };
            let _ = write!(out, "{space}{kind}@{}#{}", show(at.addr), at.n);
        }
        out
    }
}

fn parse_event(word: &str, resolve: impl Fn(&str) -> Result<u64, PlaceError>) -> Result<Event, ScheduleError> {
    let (kind, place) = word.split_once('@').ok_or_else(|| ScheduleError::Form(word.to_owned()))?;
    let kind: Kind = kind.parse()?;
    let (place, n) = match place.rsplit_once('#') {
        Some((place, n)) => {
            let n = n.parse().ok().filter(|n| *n > 0).ok_or_else(|| ScheduleError::Occurrence(word.to_owned()))?;
            (place, n)
        }
        None => (place, 1),
    };
    let addr = resolve(place).map_err(|why| ScheduleError::Place { event: word.to_owned(), why })?;
    Ok(Event { kind, at: At { addr, n } })
}
