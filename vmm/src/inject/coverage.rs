//! Coverage (I20): boundaries by the kind of context that execution stood there in, and
//! whether an NMI was injected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event;
use super::gears::Visitor;
use super::session::Session;

/// What tells contexts at one instruction apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind {
    /// The privilege level.
    pub cpl: u8,
    /// GS's base is that of *ready*: the kernel's.
    pub kernel_gs: bool,
    /// The declared stack that RSP points into, by its place in the manifest's order.
    pub stack: Option<u8>,
    /// NMIs are blocked (B).
    pub blocked: bool,
    /// An NMI is latched (P).
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

    /// Adds those of other kinds.
    pub fn add(&mut self, other: Count) {
        self.boundaries += other.boundaries;
        self.injected += other.injected;
        self.latched += other.latched;
    }
}

/// Addresses, as bits: for each 64 bytes a word.
type Addresses = BTreeMap<u64, u64>;

fn ones(set: &Addresses) -> u64 {
    set.values().map(|bits| u64::from(bits.count_ones())).sum()
}

/// The boundaries of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sets", into = "Sets")]
struct Seen {
    /// Execution stood there.
    stood: Addresses,
    /// It stood there outside a shadow.
    unshadowed: Addresses,
    /// An NMI arrived there.
    injected: Addresses,
}

/// As results keep it.
type Sets = [Vec<(u64, u64)>; 3];

impl From<Sets> for Seen {
    fn from(sets: Sets) -> Self {
        let [stood, unshadowed, injected] = sets.map(|set| set.into_iter().collect());
        Self { stood, unshadowed, injected }
    }
}

impl From<Seen> for Sets {
    fn from(seen: Seen) -> Self {
        [seen.stood, seen.unshadowed, seen.injected].map(|set| set.into_iter().collect())
    }
}

impl Seen {
    fn sets(&mut self) -> [&mut Addresses; 3] {
        [&mut self.stood, &mut self.unshadowed, &mut self.injected]
    }

    fn count(&self, kind: &Kind) -> Count {
        let not_injected = |(at, bits): (&u64, &u64)| {
            let injected = self.injected.get(at).copied().unwrap_or(0);
            let unshadowed = self.unshadowed.get(at).copied().unwrap_or(0);
            let latched = if kind.blocked || kind.pending { !0 } else { !unshadowed };
            u64::from((bits & latched & !injected).count_ones())
        };
        let latched = self.stood.iter().map(not_injected).sum();
        Count { boundaries: ones(&self.stood), injected: ones(&self.injected), latched }
    }
}

/// Every boundary seen, by kind. Two can be added in any order, with the same result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Kind, Seen)>", into = "Vec<(Kind, Seen)>")]
pub struct Coverage(BTreeMap<Kind, Seen>);

/// What is known of an instruction in one kind of context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// An NMI was injected there.
    Injected,
    /// One that arrives there is only latched.
    Latched,
    /// Nothing: execution stood there, and no NMI arrived.
    Open,
}

/// A boundary as one state stands at it.
#[derive(Clone, Copy, Debug)]
pub struct Stand {
    /// The instruction.
    pub rip: u64,
    /// The context.
    pub kind: Kind,
    /// It lies in a one-instruction shadow.
    pub shadow: bool,
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
    /// Execution stood there; `injected` where an NMI arrived. Allocates only for what
    /// is new.
    pub fn note(&mut self, at: Stand, injected: bool) {
        let seen = self.0.entry(at.kind).or_default();
        let (word, bit) = (at.rip / 64, 1 << (at.rip % 64));
        for (set, on) in seen.sets().into_iter().zip([true, !at.shadow, injected]) {
            if on {
                *set.entry(word).or_default() |= bit;
            }
        }
    }

    /// Adds what others have seen.
    pub fn merge(&mut self, other: &Coverage) {
        for (kind, theirs) in &other.0 {
            let theirs = [&theirs.stood, &theirs.unshadowed, &theirs.injected];
            for (ours, theirs) in self.0.entry(*kind).or_default().sets().into_iter().zip(theirs) {
                for (word, bits) in theirs {
                    *ours.entry(*word).or_default() |= *bits;
                }
            }
        }
    }

    /// How many instructions execution stood at, in any context, and how many of them had
    /// an NMI injected.
    pub fn instructions(&self) -> (u64, u64) {
        let count = |set: fn(&Seen) -> &Addresses| {
            let mut all = Addresses::new();
            for (word, bits) in self.0.values().flat_map(set) {
                *all.entry(*word).or_default() |= *bits;
            }
            ones(&all)
        };
        (count(|seen| &seen.stood), count(|seen| &seen.injected))
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is known of one instruction, in each kind of context that execution stood at it in.
    pub fn at(&self, rip: u64) -> impl Iterator<Item = (Kind, Known)> + '_ {
        let (word, bit) = (rip / 64, 1u64 << (rip % 64));
        let has = move |set: &Addresses| set.get(&word).is_some_and(|bits| bits & bit != 0);
        self.0.iter().filter(move |(_, seen)| has(&seen.stood)).map(move |(kind, seen)| {
            let known = match () {
                () if has(&seen.injected) => Known::Injected,
                () if kind.blocked || kind.pending || !has(&seen.unshadowed) => Known::Latched,
                () => Known::Open,
            };
            (*kind, known)
        })
    }

    /// Every instruction that execution stood at, in any context, ascending.
    pub fn places(&self) -> Vec<u64> {
        let mut all = Addresses::new();
        for (word, bits) in self.0.values().flat_map(|seen| &seen.stood) {
            *all.entry(*word).or_default() |= *bits;
        }
        let of = |(word, bits): (u64, u64)| (0..64).filter(move |i| bits >> i & 1 != 0).map(move |i| word * 64 + i);
        all.into_iter().flat_map(of).collect()
    }

    /// The sums, by kind.
    pub fn counts(&self) -> BTreeMap<Kind, Count> {
        self.0.iter().map(|(kind, seen)| (*kind, seen.count(kind))).collect()
    }

    /// The contexts in which an arrival would be delivered at once (in a shadow, it is at
    /// the next boundary), among all that an image
    /// with so many stacks has room for, in which execution never stood.
    pub fn never_stood(&self, stacks: usize) -> Vec<Kind> {
        let stack = |i: usize| if i < stacks { Some(i as u8) } else { None };
        let all = [0, 3].into_iter().flat_map(|cpl| [true, false].map(|gs| (cpl, gs)));
        let all = all.flat_map(|(cpl, kernel_gs)| {
            (0..=stacks).map(move |i| Kind { cpl, kernel_gs, stack: stack(i), blocked: false, pending: false })
        });
        all.filter(|kind| !self.0.contains_key(kind)).collect()
    }
}

/// Notes what one schedule's run stands at.
pub struct Watch<'a> {
    coverage: &'a mut Coverage,
    at: Option<Stand>,
}

impl<'a> Watch<'a> {
    /// Adds to `coverage`.
    pub fn new(coverage: &'a mut Coverage) -> Self {
        Self { coverage, at: None }
    }
}

impl Visitor for Watch<'_> {
    fn boundary(&mut self, session: &Session) {
        let at = Stand::of(session);
        self.coverage.note(at, false);
        self.at = Some(at);
    }

    fn arrived(&mut self, session: &Session, what: event::Kind) {
        let before = self.at.replace(Stand::of(session));
        if let (event::Kind::Nmi, Some(at)) = (what, before) {
            self.coverage.note(at, true);
        }
    }
}

impl From<Vec<(Kind, Seen)>> for Coverage {
    fn from(list: Vec<(Kind, Seen)>) -> Self {
        Self(list.into_iter().collect())
    }
}

impl From<Coverage> for Vec<(Kind, Seen)> {
    fn from(coverage: Coverage) -> Self {
        coverage.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(rip: u64, bits: u8) -> Stand {
        let on = |i: u8| bits >> i & 1 != 0;
        let stack = on(1).then_some(1);
        let kind = Kind { cpl: if on(0) { 3 } else { 0 }, kernel_gs: on(2), stack, blocked: on(3), pending: false };
        Stand { rip, kind, shadow: false }
    }

    #[test]
    fn what_never_stood_is_counted_by_context() {
        let mut seen = Coverage::default();
        [0b000, 0b101, 0b1000].iter().for_each(|bits| seen.note(stand(0x10, *bits), false));
        let never = seen.never_stood(2);
        assert_eq!(never.len(), 2 * 2 * 3 - 2, "{never:?}"); // a blocked one does not count
        assert!(!never.contains(&stand(0, 0b000).kind) && !never.contains(&stand(0, 0b101).kind));
        assert!(never.contains(&stand(0, 0b110).kind));
    }
}
