//! Coverage (I20): boundaries by the kind of context that execution stood there in, and
//! whether an NMI was injected.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::inject::Session;

/// What tells contexts at one instruction apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The privilege level.
    pub cpl: u8,
    /// GS's base is that of *ready*: the kernel's.
    pub kernel_gs: bool,
    /// The declared stack that RSP points into, by its place in the manifest's order.
    pub stack: Option<u8>,
    /// B.
    pub blocked: bool,
    /// P.
    pub pending: bool,
}

/// How many boundaries a kind was seen at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Instructions that execution stood at so.
    pub boundaries: u64,
    /// Of these, those that had an NMI injected.
    pub injected: u64,
    /// Those not injected where an arrival changes nothing that another does not cover:
    /// while blocked or pending it only sets P (I1), and so it does in a one-instruction
    /// shadow.
    pub latched: u64,
}

impl Count {
    /// Those that nothing is known of.
    pub fn open(&self) -> u64 {
        self.boundaries - self.injected - self.latched
    }
}

/// Every boundary seen, by kind.
#[derive(Clone, Debug, Default)]
pub struct Coverage(HashMap<(u64, Kind), Seen>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    injected: bool,
    /// It was seen outside a shadow.
    unshadowed: bool,
}

/// A boundary as one state stands at it.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    rip: u64,
    kind: Kind,
    shadow: bool,
}

impl Stand {
    /// Where the session stands.
    pub fn of(session: &Session) -> Self {
        let (m, rules) = (session.machine(), session.rules());
        let state = m.state();
        let rsp = state.regs.rsp;
        let stacks = &rules.guest.image.declared.stacks;
        let stack = stacks.iter().position(|s| s.range.start < rsp && rsp <= s.range.end);
        let kind = Kind {
            cpl: state.sregs.cs.selector as u8 & 3,
            kernel_gs: state.sregs.gs.base == rules.gs_base(),
            stack: stack.map(|i| i as u8),
            blocked: m.blocked(),
            pending: m.pending(),
        };
        Self { rip: state.regs.rip, kind, shadow: m.in_shadow() }
    }
}

impl Coverage {
    /// An edge was followed from there; `injected` where it is an arrival.
    pub fn note(&mut self, at: Stand, injected: bool) {
        let seen = self.0.entry((at.rip, at.kind)).or_default();
        seen.injected |= injected;
        seen.unshadowed |= !at.shadow;
    }

    /// How many instructions execution stood at, and how many of them had an NMI injected.
    pub fn instructions(&self) -> (u64, u64) {
        let count = |wanted: fn(&Seen) -> bool| {
            let rips: BTreeSet<u64> = self.0.iter().filter(|(_, s)| wanted(s)).map(|((rip, _), _)| *rip).collect();
            rips.len() as u64
        };
        (count(|_| true), count(|seen| seen.injected))
    }

    /// The sums, by kind.
    pub fn counts(&self) -> BTreeMap<Kind, Count> {
        let mut out = BTreeMap::<Kind, Count>::new();
        for ((_, kind), seen) in &self.0 {
            let count = out.entry(*kind).or_default();
            count.boundaries += 1;
            count.injected += u64::from(seen.injected);
            let latched = kind.blocked || kind.pending || !seen.unshadowed;
            count.latched += u64::from(!seen.injected && latched);
        }
        out
    }
}
