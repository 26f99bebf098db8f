//! What can arrive at a boundary. This is the one place that knows the kinds of event: what
//! each is called, and what it does to the machine and to the oracle's model of it.

use std::fmt;
use std::str::FromStr;

use super::session::Session;
use crate::cpu::rflags;
use crate::image::Mode;
use crate::image::vectors::MACHINE_CHECK;
use crate::kvm::VcpuState;
use crate::machine::Error;
use crate::oracle::Ghost;

/// What arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A non-maskable interrupt.
    Nmi,
    /// NMIs are unblocked from outside the handler (an SMI or machine check whose
    /// handler executed IRET).
    Unmask,
    /// A machine check (#MC), which nothing masks. The iretq of its handler unblocks NMIs.
    Mce,
    /// A maskable interrupt, where RFLAGS.IF lets it in. Its handler's iretq unblocks NMIs.
    Irq,
    /// A #DB, as a breakpoint raises it after an instruction. Its handler's iretq unblocks NMIs.
    Db,
    /// A system management interrupt (SMI), whose handler ends by RSM and executes no IRET: it gives
    /// back what it found, the NMI mask among it.
    Smi,
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
    /// The CPU delivers what comes from outside itself (mode native), and one more such event can
    /// be followed.
    pub takes_external: bool,
    /// The handler of such an event is live.
    pub in_external: bool,
    /// A machine check is being handled.
    pub in_machine_check: bool,
    /// The scenario has breakpoints.
    pub breakpoints: bool,
    /// Maskable interrupts are on (RFLAGS.IF).
    pub interrupts: bool,
    /// RSM unblocks NMIs, which is a bug (`--hv-bug rsm-unblocks`).
    pub rsm_unblocks: bool,
}

impl Boundary {
    /// The one that a session stands at.
    pub fn of(session: &Session) -> Self {
        let (m, ghost) = (session.machine(), &session.oracle().ghost);
        Self::new(session, m.state(), ghost, (m.blocked(), m.pending()))
    }

    /// One of the session's runs in this state, with NMIs blocked and one pending or not.
    pub fn new(session: &Session, vcpu: &VcpuState, ghost: &Ghost, (blocked, pending): (bool, bool)) -> Self {
        let (m, breakpoints) = (session.machine(), session.rules().scenario.breakpoints);
        Self {
            blocked,
            pending,
            shadow: vcpu.events.interrupt.shadow != 0,
            takes_external: m.mode() == Mode::Native && ghost.has_room_for_external(),
            in_external: ghost.in_external(),
            in_machine_check: ghost.in_machine_check(),
            breakpoints,
            interrupts: vcpu.regs.rflags & rflags::IF != 0,
            rsm_unblocks: m.rsm_unblocks(),
        }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Nmi, Self::Unmask, Self::Mce, Self::Irq, Self::Db, Self::Smi, Self::Fault];
    /// Those that can arrive in the lab's own scenarios, which raise faults of their own. The
    /// others need a kernel that resolves them.
    pub const IN_SCENARIOS: [Self; 6] = [Self::Nmi, Self::Unmask, Self::Mce, Self::Irq, Self::Db, Self::Smi];
    /// Those that can arrive in a real kernel's handler.
    pub const IN_KERNELS: [Self; 3] = [Self::Nmi, Self::Unmask, Self::Fault];

    /// As schedules and `--events` write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nmi => "nmi",
            Kind::Unmask => "unmask",
            Kind::Mce => "mce",
            Kind::Irq => "irq",
            Kind::Db => "db",
            Kind::Smi => "smi",
            Kind::Fault => "fault",
        }
    }

    /// The vector of one that is delivered at the very boundary where it arrives. NMIs are
    /// latched, and delivered where nothing blocks them.
    pub fn vector(self) -> Option<u8> {
        match self {
            Kind::Mce => Some(MACHINE_CHECK),
            Kind::Db => Some(1),
            // Where the built-in kernel expects it, and no exception is (SDM vol. 3, 6.2).
            Kind::Irq => Some(32),
            Kind::Nmi | Kind::Unmask | Kind::Smi | Kind::Fault => None,
        }
    }

    /// What it is, in a line of help.
    pub fn about(self) -> &'static str {
        match self {
            Kind::Nmi => "NMIs",
            Kind::Unmask => "NMIs are unblocked from outside, as by an SMI whose handler executes IRET",
            Kind::Mce => "machine checks, whose handler's iretq unblocks NMIs (mode native)",
            Kind::Irq => "a maskable interrupt on vector 32, where RFLAGS.IF is set (mode native)",
            Kind::Db => "a breakpoint's #DB, in a scenario that has breakpoints (mode native)",
            Kind::Smi => "an SMI whose handler executes no IRET; it changes nothing, but for --hv-bug rsm-unblocks",
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
            Kind::Mce => "a machine check arrives",
            Kind::Irq => "an interrupt arrives",
            Kind::Db => "a breakpoint hits",
            Kind::Smi => "an SMI arrives, and its handler returns by RSM",
            Kind::Fault => "the instruction faults",
        }
    }

    /// What it is called where it is delivered, in the middle of a sentence.
    pub fn the(self) -> &'static str {
        match self {
            Kind::Nmi => "the NMI",
            Kind::Unmask => "the end of the NMI mask",
            Kind::Mce => "the machine check",
            Kind::Irq => "the interrupt",
            Kind::Db => "the #DB",
            Kind::Smi => "the SMI",
            Kind::Fault => "the fault",
        }
    }

    /// Whether its arrival there changes anything at all.
    pub fn changes(self, at: Boundary) -> bool {
        match self {
            Kind::Nmi => !at.pending,
            Kind::Unmask => at.blocked,
            // A second machine check would shut the CPU down, whatever the entry code does.
            Kind::Mce => at.takes_external && !at.in_machine_check,
            Kind::Irq => at.takes_external && !at.in_external && at.interrupts && !at.shadow,
            // Loads of SS hold a #DB back, and the CPU may lose it (SDM vol. 3, 6.8.3).
            Kind::Db => at.takes_external && at.breakpoints && !at.shadow,
            // RSM gives back all that the guest can see (SDM vol. 3, 34.8 for the NMI mask).
            Kind::Smi => at.rsm_unblocks && at.blocked,
            Kind::Fault => true,
        }
    }

    /// Whether its arrival while NMIs are blocked, or in a shadow, may lead elsewhere than one
    /// at the boundary where that ends. An NMI is only kept until then.
    pub fn matters_while_blocked(self) -> bool {
        match self {
            Kind::Nmi => false,
            Kind::Unmask | Kind::Mce | Kind::Irq | Kind::Db | Kind::Smi | Kind::Fault => true,
        }
    }

    /// What it does to the machine and to the model. The machine stays at the boundary, unless
    /// what arrives is delivered at once.
    fn happens(self, session: &mut Session) -> Result<(), Error> {
        match self {
            Kind::Nmi => session.arrive(),
            Kind::Unmask => session.unmask(),
            Kind::Smi => return session.smi(),
            Kind::Mce | Kind::Irq | Kind::Db => return session.external(self),
            Kind::Fault => session.cannot_fault(),
        }
        Ok(())
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

    /// An SMI comes and goes at this boundary: the model knows of no change.
    pub fn smi(&mut self) -> Result<(), Error> {
        self.machine.smi()?;
        self.oracle.boundary(&self.machine);
        Ok(())
    }

    /// A fault is to arrive, which no guest of this machine is known to resolve.
    fn cannot_fault(&mut self) {
        self.oracle.limited("a fault can be raised in a real kernel's handler only (vmm linux)");
    }

    /// A machine check, an interrupt or a #DB arrives at this boundary, and is delivered there.
    fn external(&mut self, kind: Kind) -> Result<(), Error> {
        let at = Boundary::of(self);
        let Some(vector) = kind.vector() else { return Ok(()) };
        if self.machine.mode() == Mode::Pv {
            // Xen's trap table and event callback, which this one does not have.
            let why = "in mode pv machine checks, interrupts and #DBs are the hypervisor's to deliver, and the lab's \
                       delivers NMIs only";
            self.oracle.limited(why);
        } else if kind == Kind::Mce && at.in_machine_check {
            self.oracle.shut_down("a machine check arrives while the last one is being handled");
        } else if !kind.changes(at) {
            let place = self.rules().names().show(self.machine.rip());
            let why = match kind {
                _ if !at.takes_external => "the lab follows two events from outside at once, besides NMIs",
                Kind::Db if !at.breakpoints => {
                    "the kernel expects no #DB there; a scenario whose note says breakpoints does"
                }
                Kind::Db => "a load of SS holds a #DB back, and may lose it",
                _ => {
                    "an interrupt is delivered only where RFLAGS.IF is set, no shadow holds it back and no other is live"
                }
            };
            self.oracle.limited(format!("{kind}@{place}: {why}"));
        } else {
            return self.deliver_external(vector);
        }
        Ok(())
    }

    /// Something arrives at this boundary.
    pub fn event(&mut self, kind: Kind) -> Result<(), Error> {
        kind.happens(self)
    }

    /// What arrives at this boundary, one after the other; `seen` is called with each. Returns whether
    /// the machine stands at another boundary then, or the run has ended: a handler begins.
    pub(super) fn events(&mut self, kinds: &[Kind], seen: &mut dyn FnMut(&Self, Seen)) -> Result<bool, Error> {
        let mut moved = false;
        for kind in kinds {
            // What is delivered at once arrives where it is; of the others it is seen afterwards
            // what became of them.
            if kind.vector().is_some() {
                seen(self, Seen::Arrived(*kind));
                self.event(*kind)?;
                seen(self, Seen::Delivered(*kind));
                moved = true;
            } else {
                self.event(*kind)?;
                seen(self, Seen::Arrived(*kind));
            }
        }
        Ok(moved)
    }
}

/// What is seen of an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    /// It arrived at the boundary at hand.
    Arrived(Kind),
    /// It was delivered: its handler begins, or the run has ended.
    Delivered(Kind),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown event {0:?}; expected {names}, or, in a real kernel, fault", names = Kind::IN_SCENARIOS.map(Kind::name).join(", "))]
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
            Err("unknown event \"nmx\"; expected nmi, unmask, mce, irq, db, smi, or, in a real kernel, fault"
                .to_owned())
        );
    }
}
