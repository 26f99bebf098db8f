//! A thread's machine: follows one edge at a time.

use std::collections::HashSet;

use super::config::Error;
use super::footprint::{Footprints, Start};
use super::live::{Liveness, Point};
use super::packed::{Packed, Packer};
use super::path::{self, Lookout, Reductions};
use super::states::{Edge, Id, States};
use crate::inject::Session;
use crate::inject::coverage::Stand;
use crate::oracle::Verdict;

/// A thread's machine.
pub(super) struct Worker {
    pub session: Session,
    pub packer: Packer,
    /// Which stack words are dead, and what matters of an interrupted context.
    pub look: Lookout,
    /// Freely run chains of real contexts that were stepped once: where they begin and end, and
    /// what they change.
    chains: HashSet<(Point, Point, u64)>,
    /// Chains of twins that were stepped.
    footprints: Footprints,
    /// One that was run freely has not ended as one like it: what it depends on is not known.
    pub strayed: bool,
    /// One in so many states of the interrupted code has arrivals (1: all).
    pub sample: u32,
    /// Offsets of the declared stacks in the writable pages.
    pub stacks: Vec<std::ops::Range<usize>>,
    /// Where each was written lowest.
    pub deepest: Vec<usize>,
}

/// Where an edge leads.
pub(super) enum To {
    Known(u128),
    New(u128, Packed),
    Ends(Verdict),
}

/// Where an edge has led.
pub(super) struct Reached {
    pub from: Id,
    pub edge: Edge,
    pub to: To,
    pub stand: Stand,
    pub nesting: u32,
    /// No NMI is live where it has led.
    pub outermost: bool,
}

impl Worker {
    pub fn new(mut session: Session, reductions: Reductions) -> Self {
        let packer = Packer::new(&mut session);
        let watched = &session.rules().watched;
        let stacks: Vec<_> = session.rules().guest.image.declared.stacks.iter().map(|s| &s.range).collect();
        let range = |r: &&std::ops::Range<u64>| {
            let start = watched.offset(r.start);
            start.map_or(0..0, |start| start..start + (r.end - r.start) as usize)
        };
        let stacks: Vec<_> = stacks.iter().map(range).collect();
        let deepest = stacks.iter().map(|s| s.end).collect();
        let live = if reductions.merge_dead { Liveness::new(session.rules(), false) } else { None };
        let look = Lookout { live, ..Lookout::default() };
        Self {
            session,
            packer,
            look,
            chains: HashSet::new(),
            footprints: Footprints::default(),
            strayed: false,
            sample: 1,
            stacks,
            deepest,
        }
    }

    /// The hash of the state that was looked at last.
    pub fn hash(&mut self) -> u128 {
        match &self.look {
            Lookout { live: Some(live), uses: Some(uses), twin: true } => {
                self.packer.hash_episode(&self.session, live, &uses.needs, true)
            }
            Lookout { live, .. } => self.packer.hash(&self.session, live.as_ref()),
        }
    }

    /// Follows one edge from `state`. `None` where the edge does not exist there.
    pub fn follow(
        &mut self,
        id: Id,
        state: &Packed,
        edge: Edge,
        reductions: Reductions,
        known: &States,
    ) -> Result<Option<Reached>, Error> {
        if !path::exists(state, self.session.machine().mode(), edge, reductions) {
            return Ok(None);
        }
        self.packer.unpack(state, &mut self.session);
        let outermost = state.outermost();
        let stand = Stand::of(&self.session);
        let nesting = match edge {
            _ if self.look.twin => self.walk_twin(state, edge, reductions)?,
            Edge::NMI if !outermost && reductions.skips_blocked() => self.nest(state, reductions)?,
            _ => self.walk(state, edge, reductions)?,
        };
        if edge == Edge::NMI && outermost && !self.look.twin && !id.is_multiple_of(self.sample) {
            return Ok(None); // its entry was looked at; the rest is like a sampled one's
        }
        let to = match self.session.take_verdict() {
            Some(verdict) => To::Ends(verdict),
            None => {
                let hash = self.hash();
                self.note_stacks();
                match known.get(hash) {
                    Some(_) => To::Known(hash),
                    None => To::New(hash, self.packer.pack(&self.session)),
                }
            }
        };
        let outermost = self.session.oracle().ghost.outer.is_none();
        Ok(Some(Reached { from: id, edge, to, stand, nesting, outermost }))
    }

    /// Follows a nested NMI's edge in one run, where a chain like it was stepped before.
    fn nest(&mut self, state: &Packed, reductions: Reductions) -> Result<u32, Error> {
        let (start, nesting) = (Point::of(&self.session), self.session.oracle().ghost.frames.nmis() + 1);
        if self.session.nest_at_once()? {
            self.packer.look(&self.session);
            let chain = (start, Point::of(&self.session), self.packer.change_since(state));
            if self.chains.contains(&chain) {
                return Ok(nesting);
            }
        }
        self.packer.unpack(state, &mut self.session);
        self.walk(state, Edge::NMI, reductions)
    }

    /// Follows an edge, and looks at where it led. A chain that was run freely is
    /// stepped, unless one that begins and ends like it was before.
    fn walk(&mut self, state: &Packed, edge: Edge, reductions: Reductions) -> Result<u32, Error> {
        let start = Point::of(&self.session);
        let nesting = path::follow(&mut self.session, edge, reductions, Some(&mut self.look))?;
        self.packer.look(&self.session);
        if edge == Edge::Step || !reductions.skips_blocked() {
            return Ok(nesting);
        }
        let chain = (start, Point::of(&self.session), self.packer.change_since(state));
        if self.chains.insert(chain) {
            self.packer.unpack(state, &mut self.session);
            path::follow_closely(&mut self.session, edge, reductions, &mut self.look)?;
            self.packer.look(&self.session);
        }
        Ok(nesting)
    }

    /// Follows an edge of a twin's. A chain is run freely where one like it was stepped.
    fn walk_twin(&mut self, state: &Packed, edge: Edge, reductions: Reductions) -> Result<u32, Error> {
        let start = Start { rip: state.rip(), edge, hash: self.packer.hash_registers(&self.session) };
        let (packer, chains) = (&mut self.packer, &mut self.footprints);
        if let Some(end) = chains.find(start, |start, i, read| packer.hash_footprint(state, start, i, read)) {
            let nesting = self.run(state, edge, reductions)?;
            self.packer.look(&self.session);
            self.strayed |= self.session.verdict().is_none() && end != self.packer.hash_registers(&self.session);
            return Ok(nesting);
        }
        self.look.begin_chain();
        let nesting = path::follow_closely(&mut self.session, edge, reductions, &mut self.look)?;
        self.packer.look(&self.session);
        let read = self.look.read_by_chain(self.session.rules());
        let packer = &mut self.packer;
        let end = packer.hash_registers(&self.session);
        self.footprints.add(start, &read, end, |start, i, read| packer.hash_footprint(state, start, i, read));
        Ok(nesting)
    }

    /// Follows an edge freely, a nested NMI's in one run where it comes back.
    fn run(&mut self, state: &Packed, edge: Edge, reductions: Reductions) -> Result<u32, Error> {
        if edge == Edge::NMI && !state.outermost() {
            let nesting = self.session.oracle().ghost.frames.nmis() + 1;
            if self.session.nest_at_once()? {
                return Ok(nesting);
            }
            self.packer.unpack(state, &mut self.session);
        }
        Ok(path::follow(&mut self.session, edge, reductions, None)?)
    }

    /// The same of a twin's state behind its episode, without what is left on stacks.
    pub fn hash_of_ending(&mut self) -> u128 {
        match &self.look {
            Lookout { live: Some(live), uses: Some(uses), .. } => {
                self.packer.hash_episode(&self.session, live, &uses.needs, false)
            }
            Lookout { live, .. } => self.packer.hash(&self.session, live.as_ref()),
        }
    }

    /// Steps every chain of twins anew when it comes again.
    pub fn forget_chains(&mut self) {
        self.footprints = Footprints::default();
    }

    fn note_stacks(&mut self) {
        for (range, deepest) in self.stacks.iter().zip(&mut self.deepest) {
            if let Some(at) = self.packer.lowest_change(range) {
                *deepest = (*deepest).min(at);
            }
        }
    }
}
