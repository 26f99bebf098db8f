//! How states follow one another, and what schedule a path stands for.

use std::collections::{HashMap, HashSet};

use super::live::{Chain, Liveness, Point};
use super::packed::Packed;
use super::states::Edge;
use crate::cpu::Kind::Fetch;
use crate::inject::{Advance, At, Boundary, Event, Kind, Kinds, Rounds, Schedule, Session};
use crate::machine::{Engine, Error, Raise};

/// What a search tells apart, and what may arrive in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reductions {
    /// Blocked chains are run freely, to where NMIs are unblocked again.
    pub collapse: bool,
    /// Only unblocked boundaries have arrivals.
    pub reduce: bool,
    /// What may arrive.
    pub events: Kinds,
    /// The model of the CPU carries the search, and KVM confirms it; otherwise KVM alone does.
    pub model: bool,
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
            model: true,
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

/// Who looks at what is executed.
#[derive(Default)]
pub struct Lookout {
    /// At what is read and written of the stacks (`merge_dead`).
    pub live: Option<Liveness>,
    /// At which instructions the edge under way executes.
    pub chain: Chain,
    /// Words of memory that the edge under way has written, by their physical addresses over eight;
    /// `None` where that is not known.
    pub written: Option<Vec<u64>>,
    /// Physical addresses of all instructions executed, where they are asked for.
    pub fetched: Option<HashSet<u64>>,
}

/// Whether a state of this session has this edge.
pub fn exists(state: &Packed, session: &Session, edge: Edge, reductions: Reductions) -> bool {
    let Some(kind) = edge.event() else { return true };
    let mode = session.machine().mode();
    let held = (state.blocked(mode), state.pending(mode));
    let at = Boundary::new(session, state.vcpu(), state.ghost(), held);
    let later = reductions.reduce && !kind.matters_while_blocked() && (at.blocked || at.shadow);
    reductions.events.has(kind) && kind.changes(at) && !later
}

/// Follows an edge to the next state, or to a verdict, and has it looked at. Returns how many
/// NMIs were live after its first move.
///
/// The model looks at RSP after each instruction (I9). A free run on KVM does not, so without the
/// model blocked chains are stepped.
pub fn follow(
    session: &mut Session,
    edge: Edge,
    reductions: Reductions,
    mut look: Option<&mut Lookout>,
) -> Result<u32, Error> {
    if let Some(look) = &mut look {
        look.chain = Chain::default();
        look.written = (session.machine().engine() == Engine::Model).then(Vec::new);
    }
    tracked(session, look.as_deref_mut(), |session| begin(session, edge).map(|_| ()))?;
    let nesting = session.oracle().ghost.frames.nmis();
    if session.machine().engine() == Engine::Model {
        run_on(session, reductions, look)?;
    } else {
        let mut rounds = Rounds::default();
        while skip(session, reductions) {
            session.advance(Advance::Step)?;
            session.watch_rounds(&mut rounds)?;
        }
    }
    Ok(nesting)
}

/// As [`follow`], with blocked chains run freely whoever executes them.
pub fn follow_freely(session: &mut Session, edge: Edge, reductions: Reductions) -> Result<(), Error> {
    begin(session, edge)?;
    run_on(session, reductions, None)
}

fn run_on(session: &mut Session, reductions: Reductions, mut look: Option<&mut Lookout>) -> Result<(), Error> {
    while skip(session, reductions) {
        let how = if session.machine().in_shadow() { Advance::Step } else { Advance::To(&[]) };
        tracked(session, look.as_deref_mut(), |session| session.advance(how))?;
    }
    Ok(())
}

/// As [`follow`], one instruction after the other: what a free run does not look at is seen, and
/// no byte of the lab's stands in the code.
pub fn follow_stepped(session: &mut Session, edge: Edge, reductions: Reductions) -> Result<(), Error> {
    begin(session, edge)?;
    while skip(session, reductions) {
        session.advance(Advance::Step)?;
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
    let from = Point::of(session);
    session.clear_accesses();
    go(session)?;
    let accesses = session.machine().accesses();
    look.chain.add(accesses);
    match &mut look.written {
        Some(_) if accesses.all => look.written = None,
        Some(written) => {
            let writes = accesses.list.iter().filter(|a| a.write);
            written.extend(writes.flat_map(|a| [a.paddr / 8, (a.paddr + u64::from(a.size) - 1) / 8]));
        }
        None => {}
    }
    if let Some(fetched) = &mut look.fetched {
        fetched.extend(accesses.list.iter().filter(|a| a.kind == Fetch).map(|a| a.paddr));
    }
    if let Some(live) = &mut look.live {
        live.see(from, accesses, Point::of(session));
    }
    Ok(())
}

/// The edge's first move. `false` where an event only waits: the session stands where it was.
fn begin(session: &mut Session, edge: Edge) -> Result<bool, Error> {
    if let Edge::Event(kind) = edge {
        session.event(kind)?;
        if kind.vector().is_some() {
            return Ok(true); // it was delivered
        }
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
    let last = path.iter().rposition(|edge| edge.event().is_some());
    for (i, edge) in path.iter().enumerate() {
        events.extend(edge.event().map(|kind| Event { kind, at }));
        if last.is_none_or(|last| i >= last) {
            break; // what follows has no place in a schedule, and need not end
        }
        let moved = begin(session, *edge)?;
        if session.verdict().is_some() {
            break;
        }
        if moved {
            at = stand(session);
        }
        let mut rounds = Rounds::default();
        while skip(session, reductions) {
            session.advance(Advance::Step)?;
            session.watch_rounds(&mut rounds)?;
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
