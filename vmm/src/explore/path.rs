//! How states follow one another, and what schedule a path stands for.

use std::collections::HashMap;

use super::footprint::{WordSet, insert};
use super::live::Liveness;
use super::packed::Packed;
use super::states::Edge;
use super::uses::Uses;
use crate::image::Mode;
use crate::inject::{Advance, At, Boundary, Event, Kind, Kinds, Schedule, Session};
use crate::machine::{Error, Raise};
use crate::oracle::Rules;

/// What a search tells apart, and what may arrive in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reductions {
    /// Blocked chains are run freely, to where NMIs are unblocked again.
    pub collapse: bool,
    /// Only unblocked boundaries have arrivals.
    pub reduce: bool,
    /// What may arrive.
    pub events: Kinds,
    /// Stack words that nothing will read do not tell states apart.
    pub merge_dead: bool,
    /// What an NMI does is looked at once for all interrupted contexts that are alike to it
    /// (see `episodes.rs`).
    pub merge_episodes: bool,
}

impl Default for Reductions {
    fn default() -> Self {
        Self {
            collapse: true,
            reduce: true,
            events: Kinds::from_iter([Kind::Nmi]),
            merge_dead: true,
            merge_episodes: true,
        }
    }
}

impl Reductions {
    /// Whether blocked chains may be skipped: not where something can happen there.
    pub fn skips_blocked(self) -> bool {
        self.collapse && self.reduce && !self.events.iter().any(Kind::matters_while_blocked)
    }

    /// The edges that a state may have.
    pub fn edges(self) -> impl Iterator<Item = Edge> {
        std::iter::once(Edge::Step).chain(self.events.iter().map(Edge::Event))
    }
}

/// Who looks at each instruction that is stepped.
#[derive(Default)]
pub struct Lookout {
    /// At what it reads and writes of the stacks (`merge_dead`).
    pub live: Option<Liveness>,
    /// At what it does with values of the interrupted context (`merge_episodes`).
    pub uses: Option<Uses>,
    /// Whether `uses` looks now: the context is a twin's.
    pub twin: bool,
}

impl Lookout {
    /// A chain begins that is stepped from end to end.
    pub fn begin_chain(&mut self) {
        self.live.iter_mut().for_each(Liveness::begin_chain);
        self.uses().into_iter().for_each(|uses| uses.needs.begin_chain());
    }

    /// What the chain read before it wrote it: words of the writable pages.
    pub fn read_by_chain(&self, rules: &Rules) -> WordSet {
        let mut out = self.uses.as_ref().map_or_else(Vec::new, |uses| uses.needs.touched().clone());
        for addr in self.live.iter().flat_map(Liveness::read_by_chain) {
            if let Some(at) = rules.watched.offset(addr) {
                insert(&mut out, at / 8);
            }
        }
        out
    }

    fn uses(&mut self) -> Option<&mut Uses> {
        self.uses.as_mut().filter(|_| self.twin)
    }
}

/// Whether a state has this edge.
pub fn exists(state: &Packed, mode: Mode, edge: Edge, reductions: Reductions) -> bool {
    let Some(kind) = edge.event() else { return true };
    let at = Boundary { blocked: state.blocked(mode), pending: state.pending(mode), shadow: state.in_shadow() };
    let later = reductions.reduce && !kind.matters_while_blocked() && (at.blocked || at.shadow);
    reductions.events.has(kind) && kind.changes(at) && !later
}

/// Follows an edge to the next state, or to a verdict, and has what is not run freely
/// looked at. Returns how many NMIs were live after its first move.
pub fn follow(
    session: &mut Session,
    edge: Edge,
    reductions: Reductions,
    mut look: Option<&mut Lookout>,
) -> Result<u32, Error> {
    tracked(session, look.as_deref_mut(), |session| begin(session, edge).map(|_| ()))?;
    let nesting = session.oracle().ghost.frames.nmis();
    while skip(session, reductions) {
        let m = session.machine();
        match (m.blocked(), m.in_shadow()) {
            (true, false) => session.advance(Advance::To(&[]))?,
            (true, true) => session.advance(Advance::Step)?,
            _ => tracked(session, look.as_deref_mut(), |session| session.advance(Advance::Step))?,
        }
    }
    Ok(nesting)
}

/// The same by single steps, each of them looked at.
pub fn follow_closely(
    session: &mut Session,
    edge: Edge,
    reductions: Reductions,
    look: &mut Lookout,
) -> Result<u32, Error> {
    look.uses().into_iter().for_each(Uses::forget);
    tracked(session, Some(look), |session| begin(session, edge).map(|_| ()))?;
    let nesting = session.oracle().ghost.frames.nmis();
    while skip(session, reductions) {
        tracked(session, Some(look), |session| session.advance(Advance::Step))?;
    }
    if let Some(uses) = look.uses().filter(|_| session.verdict().is_none()) {
        uses.at_state(session);
    }
    Ok(nesting)
}

/// Goes on with nothing more arriving, to where no NMI is live.
pub fn leave(session: &mut Session) -> Result<(), Error> {
    while session.verdict().is_none() && session.oracle().ghost.outer.is_some() {
        match session.deliverable() {
            true => session.deliver(Raise::Events)?,
            false => session.advance(Advance::To(&[]))?,
        }
    }
    Ok(())
}

/// Makes one move, and has it looked at.
fn tracked(
    session: &mut Session,
    look: Option<&mut Lookout>,
    go: impl FnOnce(&mut Session) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(look) = look else { return go(session) };
    let access = look.live.as_mut().map(|live| live.before(session));
    let (nmis, outermost) = (session.machine().blocked(), session.oracle().ghost.outer.is_none());
    if let Some(uses) = look.uses() {
        uses.before(session);
    }
    go(session)?;
    let m = session.machine();
    // Only a delivery blocks NMIs; an arrival that is kept moves nothing.
    let delivered = !nmis && m.blocked();
    match (look.live.as_mut(), access) {
        (Some(live), Some(access)) if delivered => live.delivered(access.point(), session),
        (Some(live), Some(access)) => live.after(access, session),
        _ => {}
    }
    if let Some(uses) = look.uses() {
        match delivered && outermost {
            true => uses.interrupted(session),
            false => uses.after(session),
        }
    }
    Ok(())
}

/// The edge's first move. `false` where an event only waits: the session stands where it was.
fn begin(session: &mut Session, edge: Edge) -> Result<bool, Error> {
    if let Edge::Event(kind) = edge {
        session.event(kind);
    }
    match (session.deliverable(), edge) {
        (true, _) => session.deliver(Raise::Events)?,
        (false, Edge::Step) => session.advance(Advance::Step)?,
        (false, Edge::Event(_)) => return Ok(false),
    }
    Ok(true)
}

/// Whether the session stands at a boundary that is no state of this search.
fn skip(session: &Session, reductions: Reductions) -> bool {
    let m = session.machine();
    session.verdict().is_none() && reductions.skips_blocked() && (m.blocked() || m.in_shadow())
}

/// The schedule that follows `path` from *ready*, found by stepping it.
pub fn schedule(session: &mut Session, path: &[Edge], reductions: Reductions) -> Result<Schedule, Error> {
    session.reset();
    let mut counts = HashMap::<u64, u32>::new();
    let mut stand = |session: &Session| {
        let addr = session.machine().rip();
        let n = counts.entry(addr).or_default();
        *n += 1;
        At { addr, n: *n }
    };
    let mut at = stand(session);
    let mut events = Vec::new();
    for edge in path {
        events.extend(edge.event().map(|kind| Event { kind, at }));
        let moved = begin(session, *edge)?;
        if session.verdict().is_some() {
            break;
        }
        if moved {
            at = stand(session);
        }
        while skip(session, reductions) {
            session.advance(Advance::Step)?;
            if session.verdict().is_none() {
                at = stand(session);
            }
        }
        if session.verdict().is_some() {
            break;
        }
    }
    session.take_verdict();
    Ok(Schedule(events))
}
