//! How states follow one another, and what schedule a path stands for.

use std::collections::HashMap;

use super::live::Liveness;
use super::packed::Packed;
use super::states::Edge;
use crate::inject::{Advance, At, Event, Kind, Schedule, Session};
use crate::machine::{Error, Mode, Raise};

/// Which moves a search makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moves {
    /// Blocked chains are run freely, to where NMIs are unblocked again.
    pub collapse: bool,
    /// Only unblocked boundaries have arrivals.
    pub reduce: bool,
    /// NMIs may be unblocked from outside, at any blocked boundary.
    pub unmask: bool,
    /// Stack words that nothing will read do not tell states apart.
    pub merge_dead: bool,
}

impl Default for Moves {
    fn default() -> Self {
        Self { collapse: true, reduce: true, unmask: false, merge_dead: true }
    }
}

impl Moves {
    /// Whether blocked chains may be skipped: not where something can happen there.
    pub fn skips_blocked(self) -> bool {
        self.collapse && self.reduce && !self.unmask
    }
}

/// Whether a state has this edge.
pub fn exists(state: &Packed, mode: Mode, edge: Edge, moves: Moves) -> bool {
    match edge {
        Edge::Step => true,
        Edge::Nmi if moves.reduce => !state.blocked(mode) && !state.in_shadow() && !state.pending(mode),
        Edge::Nmi => !state.pending(mode),
        Edge::Unmask => moves.unmask && state.blocked(mode),
    }
}

/// Follows an edge to the next state, or to a verdict. Returns how many NMIs were
/// live after its first move.
pub fn follow(session: &mut Session, edge: Edge, moves: Moves, mut live: Option<&mut Liveness>) -> Result<u32, Error> {
    tracked(session, live.as_deref_mut(), |session| begin(session, edge))?;
    let nesting = session.oracle().ghost.frames.nmis();
    while skip(session, moves) {
        let m = session.machine();
        match (m.blocked(), m.in_shadow()) {
            (true, false) => session.advance(Advance::To(&[]))?,
            (true, true) => session.advance(Advance::Step)?,
            _ => tracked(session, live.as_deref_mut(), |session| session.advance(Advance::Step))?,
        }
    }
    Ok(nesting)
}

/// Follows an edge by single steps, and tells `live` of each.
pub fn follow_closely(
    session: &mut Session,
    edge: Edge,
    moves: Moves,
    mut live: Option<&mut Liveness>,
) -> Result<(), Error> {
    tracked(session, live.as_deref_mut(), |session| begin(session, edge))?;
    while skip(session, moves) {
        tracked(session, live.as_deref_mut(), |session| session.advance(Advance::Step))?;
    }
    Ok(())
}

/// Makes one move, and tells `live` what it touched.
fn tracked(
    session: &mut Session,
    live: Option<&mut Liveness>,
    go: impl FnOnce(&mut Session) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(live) = live else { return go(session) };
    let access = live.before(session);
    let nmis = session.machine().blocked();
    go(session)?;
    let m = session.machine();
    // Only a delivery blocks NMIs; an arrival that is kept moves nothing.
    if !nmis && m.blocked() {
        live.delivered(access.point(), session);
    } else {
        live.after(access, session);
    }
    Ok(())
}

/// The edge's first move.
fn begin(session: &mut Session, edge: Edge) -> Result<(), Error> {
    match edge {
        Edge::Nmi => session.arrive(),
        Edge::Unmask => session.unmask(),
        Edge::Step if session.deliverable() => {}
        Edge::Step => return session.advance(Advance::Step),
    }
    if session.deliverable() { session.deliver(Raise::Events) } else { Ok(()) }
}

/// Whether the session stands at a boundary that is no state of this search.
fn skip(session: &Session, moves: Moves) -> bool {
    let m = session.machine();
    session.verdict().is_none() && moves.skips_blocked() && (m.blocked() || m.in_shadow())
}

/// The schedule that follows `path` from *ready*, found by stepping it.
pub fn schedule(session: &mut Session, path: &[Edge], moves: Moves) -> Result<Schedule, Error> {
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
        let kind = match edge {
            Edge::Step => None,
            Edge::Nmi => Some(Kind::Nmi),
            Edge::Unmask => Some(Kind::Unmask),
        };
        events.extend(kind.map(|kind| Event { kind, at }));
        let waits = kind.is_some() && !after_event_moves(session, *edge);
        begin(session, *edge)?;
        if session.verdict().is_some() {
            break;
        }
        if !waits {
            at = stand(session);
        }
        while skip(session, moves) {
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

/// Whether an event at this boundary is followed by a delivery, which moves on.
fn after_event_moves(session: &Session, edge: Edge) -> bool {
    let m = session.machine();
    let blocked = m.blocked() && edge != Edge::Unmask;
    let pending = m.pending() || edge == Edge::Nmi;
    pending && !blocked && !m.in_shadow()
}
