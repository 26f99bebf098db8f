//! What can arrive at a boundary. This is the one place that knows the kinds of event: what
//! each is called, and what it does to the machine and to the oracle's model of it.

use std::fmt;
use std::str::FromStr;

use super::session::Session;
use crate::machine::Machine;

/// What arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A non-maskable interrupt.
    Nmi,
    /// NMIs are unblocked from outside the handler (an SMI or machine check whose
    /// handler executed IRET).
    Unmask,
    /// The instruction there faults, as any may in a handler's C code: a real exception, whose
    /// handler's iretq unblocks NMIs.
    Fault,
}

/// Where an event would arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// NMIs are blocked (B).
    pub blocked: bool,
    /// One is latched (P).
    pub pending: bool,
    /// The boundary lies in the one-instruction shadow of a `mov ss` or `sti`.
    pub shadow: bool,
}

impl Boundary {
    /// That of a machine.
    pub fn of(machine: &Machine) -> Self {
        Self { blocked: machine.blocked(), pending: machine.pending(), shadow: machine.in_shadow() }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nmi, Self::Unmask, Self::Fault];
    /// Those that can arrive in the lab's own scenarios, which raise faults of their own. The
    /// others need a kernel that resolves them.
    pub const IN_SCENARIOS: [Self; 2] = [Self::Nmi, Self::Unmask];

    /// As schedules and `--events` write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nmi => "nmi",
            Kind::Unmask => "unmask",
            Kind::Fault => "fault",
        }
    }

    /// What it is, in a line of help.
    pub fn about(self) -> &'static str {
        match self {
            Kind::Nmi => "NMIs",
            Kind::Unmask => "NMIs are unblocked from outside, as by an SMI whose handler executes IRET",
            Kind::Fault => "the instruction raises a page fault, which the kernel resolves",
        }
    }

    /// What it does there, in a line of a trace.
    pub fn told(self, at: Boundary) -> &'static str {
        match self {
            Kind::Nmi if at.blocked => "an NMI arrives, and is latched: NMIs are blocked",
            Kind::Nmi if at.shadow => "an NMI arrives, and waits: this boundary is in a shadow",
            Kind::Nmi => "an NMI arrives",
            Kind::Unmask => "NMIs are unmasked from outside",
            Kind::Fault => "the instruction faults",
        }
    }

    /// Whether its arrival there changes anything at all.
    pub fn changes(self, at: Boundary) -> bool {
        match self {
            Kind::Nmi => !at.pending,
            Kind::Unmask => at.blocked,
            Kind::Fault => true,
        }
    }

    /// Whether its arrival while NMIs are blocked, or in a shadow, may lead elsewhere than one
    /// at the boundary where that ends. An NMI is only kept until then.
    pub fn matters_while_blocked(self) -> bool {
        match self {
            Kind::Nmi => false,
            Kind::Unmask | Kind::Fault => true,
        }
    }

    /// What it does to the machine and to the model. The machine stays at the boundary.
    fn happens(self, session: &mut Session) {
        match self {
            Kind::Nmi => session.arrive(),
            Kind::Unmask => session.unmask(),
            Kind::Fault => session.cannot_fault(),
        }
    }
}

impl Session {
    /// An NMI arrives at this boundary.
    pub fn arrive(&mut self) {
        self.late = self.machine.races_with_nmi_window();
        self.oracle.arrived();
        self.machine.latch();
        self.oracle.boundary(&self.machine); // it must be latched now, in every gear
    }

    /// NMIs are unblocked at this boundary from outside.
    pub fn unmask(&mut self) {
        self.oracle.unmasked();
        self.machine.set_blocked(false);
    }

    /// A fault is to arrive, which no guest of this machine is known to resolve.
    fn cannot_fault(&mut self) {
        self.oracle.limited("a fault can be raised in a real kernel's handler only (vmm linux)");
    }

    /// Something arrives at this boundary.
    pub fn event(&mut self, kind: Kind) {
        kind.happens(self);
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown event {0:?}; expected {names}, or, in a real kernel, fault", names = Kind::IN_SCENARIOS.map(Kind::name).join(" or "))]
pub struct UnknownEvent(pub String);

impl FromStr for Kind {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| UnknownEvent(text.to_owned()))
    }
}

/// A set of kinds: what may arrive in a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u32);

impl Kinds {
    /// Whether it has this kind.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u32 != 0
    }

    /// Those in it, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!([kind].into_iter().collect::<Kinds>().iter().collect::<Vec<_>>(), [kind]);
        }
        let all: Kinds = Kind::ALL.into_iter().rev().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Kind::ALL);
        let unknown = "nmx".parse::<Kind>().map_err(|e| e.to_string());
        assert_eq!(
            unknown,
            Err("unknown event \"nmx\"; expected nmi or unmask, or, in a real kernel, fault".to_owned())
        );
    }
}
