//! Interrupted contexts that NMI code cannot tell apart.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Range;

use super::states::Edge;
use crate::cpu::{Cpu, Looks, Place, Register, Traced, inputs};
use crate::inject::Session;
use crate::machine::paging::translate;
use crate::oracle::Context;

/// What contexts of one class always agree in: everything of the state whose provenance is not
/// followed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u128);

impl Key {
    /// Of the context that the session stands in, interrupted by `edge`.
    pub fn of(session: &Session, edge: Edge) -> Self {
        let (machine, ghost) = (session.machine(), &session.oracle().ghost);
        let state = machine.state();
        let mut h = xxhash_rust::xxh3::Xxh3Default::new();
        let mut sregs = state.sregs;
        (sregs.cr2, sregs.fs.base, sregs.gs.base) = (0, 0, 0);
        (sregs, state.events, state.lazy, machine.pv(), machine.latched(), ghost, edge).hash(&mut h);
        let stacks = &session.rules().guest.image.declared.stacks;
        stacks.iter().position(|s| s.range.start < state.regs.rsp && state.regs.rsp <= s.range.end).hash(&mut h);
        h.write_u8(0);
        Self(h.digest128())
    }
}

/// A way that an episode ends.
pub struct Ending {
    /// The edges from the interrupted context on.
    pub way: Vec<Edge>,
    /// The state afterwards, from the context that was searched.
    pub hash: u128,
    /// Where its values come from.
    pub trace: Box<Traced>,
    /// The instructions on this way, as a number, once it was executed from a context.
    pub code: Option<u128>,
}

/// What the search of one episode has shown.
pub struct Class {
    /// What was looked at on any path.
    looks: Looks,
    /// Physical addresses of the instructions that were executed.
    fetched: HashSet<u64>,
    /// RIP of the context that was searched.
    rip: u64,
    /// The unused part of its stack, of which the oracle compares nothing when it goes on (I7).
    unused: Range<u64>,
    /// How it can end.
    pub endings: Vec<Ending>,
}

impl Class {
    /// Of the episode that begins where the session stands.
    pub fn begin(session: &Session) -> Self {
        let (rip, unused) = (session.machine().rip(), unused(session));
        Self { looks: Looks::default(), fetched: HashSet::new(), rip, unused, endings: vec![] }
    }

    /// The search has ended: `all` has what was looked at on any path. The session stands in the
    /// context that was searched.
    pub fn settle(&mut self, session: &Session, mut all: Traced, fetched: HashSet<u64>) {
        self.fetched = fetched;
        if self.executes(session, self.rip) {
            // Its frame could be taken for one of the episode's own.
            [Register::Rip, Register::Gpr(4), Register::Flags].into_iter().for_each(|r| all.look_at_register(r));
        }
        // The oracle holds what is given back to what it was.
        for ending in &self.endings {
            for register in Register::all().filter(|r| *r != Register::Flags) {
                let own = |i: usize| crate::cpu::Origin::Copy(Place::Register(register, i as u8));
                if (0..8).any(|i| ending.trace.register_origins(register)[i] != own(i)) {
                    log::debug!("an ending leaves {register:?} {:?}", ending.trace.register_origins(register));
                    all.look_at_register(register);
                }
            }
        }
        self.looks = Looks::of(&all, inputs(&cpu_of(session), session.machine().memory().0));
        log::debug!("an episode at {:#x} looks at {}", self.rip, self.looks);
    }

    /// Whether the context that the session stands in is one of this class.
    pub fn fits(&self, session: &Session) -> bool {
        let rip = session.machine().rip();
        if rip != self.rip && self.executes(session, rip) {
            return false;
        }
        // Paths that spoil a word differently were taken for one where the oracle does not look at it.
        let theirs = unused(session);
        if theirs.start > self.unused.start || theirs.end < self.unused.end {
            return false;
        }
        self.looks.agree(inputs(&cpu_of(session), session.machine().memory().0))
    }

    /// Why the context that the session stands in is not of this class, for a log.
    pub fn misfit(&self, session: &Session) -> String {
        let other = self.looks.misfit(inputs(&cpu_of(session), session.machine().memory().0));
        other.unwrap_or_else(|| "it executes code of the context".into())
    }

    /// Whether the episode executes the instruction at `rip`, too.
    pub fn executes(&self, session: &Session, rip: u64) -> bool {
        let machine = session.machine();
        translate(machine.memory().0, machine.state().sregs.cr3, rip).is_none_or(|p| self.fetched.contains(&p))
    }
}

/// The unused part of the stack of the context that the session stands in.
fn unused(session: &Session) -> Range<u64> {
    let machine = session.machine();
    session.rules().dead_under(machine, &Context::of(machine.state()))
}

/// The registers whose provenance is followed.
fn cpu_of(session: &Session) -> Cpu {
    let state = session.machine().state();
    state.cpu(&state.lazy.state())
}
