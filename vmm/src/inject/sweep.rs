//! Every boundary of every path: points, pairs, and deeper.
//!
//! The golden path is stepped; at each of its boundaries an NMI arrives, and the
//! path that follows is stepped in the same way, down to the wanted depth. At the
//! last level the case starts *at* its boundary, from the state that stands there,
//! and runs freely to its end: the jump gear.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::case::{Again, CaseResult};
use super::coverage::{self, Coverage, Stand};
use super::event::Kind;
use super::gears::{Gear, RunError, run};
use super::moves::Advance;
use super::passed::{Passed, finish};
use super::places::Places;
use super::rounds::Rounds;
use super::schedule::{At, Event, Schedule};
use super::session::{Saved, Session};
use crate::image::Guest;
use crate::machine::{Error, Raise};
use crate::oracle::{Rules, Verdict};

/// How far a sweep goes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most NMIs in a case.
    pub depth: usize,
    /// Every so many cases, one is run again in the arm gear; 0: none.
    pub recheck: u64,
    /// Where the second and later NMIs arrive.
    pub later: Arc<Places>,
    /// Which of the golden run's boundaries have a first NMI, by number.
    pub first: Vec<bool>,
}

/// How often each boundary was visited on the path under way.
struct Counts {
    guest: Arc<Guest>,
    counts: Vec<u32>,
    path: Vec<u64>,
}

impl Counts {
    fn of(guest: &Arc<Guest>) -> Self {
        Self { guest: Arc::clone(guest), counts: vec![0; guest.code.places()], path: Vec::new() }
    }

    fn visit(&mut self, addr: u64) -> u32 {
        self.path.push(addr);
        // Execution outside the image's code is a violation soon; its count is moot.
        let Some(place) = self.guest.code.place(addr) else { return 1 };
        self.counts[place] += 1;
        self.counts[place]
    }

    fn rewind(&mut self, len: usize) {
        while self.path.len() > len {
            let Some(addr) = self.path.pop() else { break };
            if let Some(place) = self.guest.code.place(addr) {
                self.counts[place] -= 1;
            }
        }
    }
}

/// A sweep over one session.
pub struct Sweep<'a> {
    session: &'a mut Session,
    limits: Limits,
    counts: Counts,
    events: Vec<Event>,
    saved: Vec<Saved>,
    passed: Passed,
    /// Golden boundaries passed so far.
    unit: usize,
    /// Cases of this unit run so far.
    index: u64,
    /// What failing cases of this unit were judged to be by steps: by the number of their
    /// events, the kind of context that the last arrived in, and what a free run said.
    judged: HashMap<(usize, coverage::Kind, String), Verdict>,
    /// What this unit saw.
    coverage: Coverage,
    /// The kinds of context that earlier units' first NMIs arrived in.
    kinds: BTreeSet<coverage::Kind>,
    /// The kinds that NMIs arrived in whose paths this unit has looked at; `None` where
    /// it looks at none.
    looked: Option<BTreeSet<coverage::Kind>>,
}

/// Most boundaries of a path that is looked at.
const LOOK: usize = 5_000;

/// Called with each case; `Break` ends the sweep.
pub type OnCase<'c> = dyn FnMut(&CaseResult) -> ControlFlow<()> + 'c;

impl<'a> Sweep<'a> {
    /// A sweep that begins at *ready*.
    pub fn new(session: &'a mut Session, limits: Limits) -> Self {
        session.reset();
        let counts = Counts::of(session.machine().guest());
        let saved = (0..limits.depth).map(|_| session.saved()).collect();
        let passed = Passed::default();
        Self {
            session,
            limits,
            counts,
            events: vec![],
            saved,
            passed,
            unit: 0,
            index: 0,
            judged: HashMap::new(),
            coverage: Coverage::default(),
            kinds: BTreeSet::new(),
            looked: None,
        }
    }

    /// How many units of work there are: one for each boundary of the golden run.
    pub fn units(session: &Session) -> usize {
        session.rules().golden.visits.len()
    }

    /// The rules of the session.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(self.session.rules())
    }

    /// What the units saw since this was last asked for.
    pub fn take_coverage(&mut self) -> Coverage {
        std::mem::take(&mut self.coverage)
    }

    /// The lowest address of an instruction that read time or randomness in a case of this unit, or
    /// in the golden run.
    pub fn reads_time(&self) -> Option<u64> {
        self.session.reads_time()
    }

    /// Whether an SMI was played in a case since this was last asked.
    pub fn take_smi_played(&mut self) -> bool {
        self.session.take_smi_played()
    }

    /// Whether the golden run's boundary number `unit` has a first NMI.
    pub fn has(&self, unit: usize) -> bool {
        self.limits.first.get(unit).copied().unwrap_or(false)
    }

    /// Passes a unit whose boundary has no first NMI: it is seen, and that is all.
    pub fn pass(&mut self, unit: usize) -> Result<(), RunError> {
        self.go_to(unit)?;
        self.coverage.note(Stand::of(self.session), false);
        Ok(())
    }

    /// Runs every case whose first NMI arrives at the golden run's boundary number
    /// `unit`. Units must be asked for in ascending order.
    pub fn unit(&mut self, unit: usize, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        self.go_to(unit)?;
        let mark = self.counts.path.len();
        let at = self.stand();
        let out = self.fork(at, 0, on_case);
        self.counts.rewind(mark);
        out
    }

    /// Runs cases whose first NMI arrives at the golden run's boundary number `unit`.
    /// Each list holds the boundaries from one NMI to the next; a run that ends before
    /// has fewer NMIs.
    pub fn unit_with_gaps(
        &mut self,
        unit: usize,
        cases: &[Vec<u32>],
        on_case: &mut OnCase,
    ) -> Result<ControlFlow<()>, RunError> {
        self.go_to(unit)?;
        for gaps in cases {
            let mark = self.counts.path.len();
            let at = self.stand();
            self.session.save(&mut self.saved[0]);
            let kind = self.arrive(at);
            let verdict = self.walk_gaps(gaps)?;
            let verdict = self.first_broken(verdict)?;
            // What is stepped here is the first NMI alone, not the case.
            self.look(0, kind)?;
            let out = self.case(&verdict, false, on_case);
            self.events.clear();
            self.counts.rewind(mark);
            self.session.restore(&self.saved[0]);
            if out?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn walk_gaps(&mut self, gaps: &[u32]) -> Result<Verdict, RunError> {
        for gap in gaps {
            let mut at = At { addr: 0, n: 0 };
            for _ in 0..*gap {
                self.go_on(&Places::All)?;
                if let Some(verdict) = self.session.take_verdict() {
                    return Ok(verdict);
                }
                at = self.stand();
            }
            self.arrive(at);
        }
        Ok(finish(self.session, &mut self.passed)?)
    }

    /// Steps the golden run on to a unit's boundary.
    fn go_to(&mut self, unit: usize) -> Result<(), RunError> {
        while self.unit < unit {
            self.meet_kind();
            self.counts.visit(self.session.machine().rip());
            self.session.advance(Advance::Step)?;
            self.unit += 1;
        }
        self.index = 0;
        self.judged.clear();
        // It depends on the unit's number only, however the units are shared out.
        self.looked = self.meet_kind().then(BTreeSet::new);
        // So does what the unit itself reads.
        self.session.forget_read_time();
        Ok(())
    }

    /// Whether the boundary at hand is the first one with a first NMI in its kind of
    /// context.
    fn meet_kind(&mut self) -> bool {
        self.has(self.unit) && self.kinds.insert(Stand::of(self.session).kind)
    }

    /// An NMI arrives at this boundary. Returns the kind of context that it stands in.
    fn arrive(&mut self, at: At) -> coverage::Kind {
        let stand = Stand::of(self.session);
        self.coverage.note(stand, true);
        self.events.push(Event { kind: Kind::Nmi, at });
        self.session.arrive();
        stand.kind
    }

    /// A case's last NMI runs freely, so nobody sees what boundaries it stands at. In a
    /// few units the path is stepped once more for that: once for each kind of context
    /// that an NMI arrives in. What that comes to: a pass where the NMI is over; `None` where
    /// it was not stepped, or not to its end.
    fn look(&mut self, level: usize, kind: coverage::Kind) -> Result<Option<Verdict>, RunError> {
        if !self.looked.as_mut().is_some_and(|kinds| kinds.insert(kind)) {
            return Ok(None);
        }
        self.session.restore(&self.saved[level]);
        self.session.arrive();
        for _ in 0..LOOK {
            match self.session.deliverable() {
                true => self.session.deliver(Raise::Events)?,
                false => self.session.advance(Advance::Step)?,
            }
            let over = !self.session.machine().pending() && self.session.oracle().ghost.outer.is_none();
            if let Some(verdict) = self.session.take_verdict() {
                return Ok(Some(verdict));
            }
            if over {
                return Ok(Some(Verdict::Pass));
            }
            self.coverage.note(Stand::of(self.session), false);
        }
        Ok(None)
    }

    /// Moves to the next boundary of `places`, or to one where the oracle looks.
    fn go_on(&mut self, places: &Places) -> Result<(), Error> {
        if self.session.deliverable() {
            return self.session.deliver(Raise::Events);
        }
        let shadowed = self.session.machine().pending() && self.session.machine().in_shadow();
        match places {
            Places::Only(list) if !shadowed => self.session.advance(Advance::To(list)),
            _ => self.session.advance(Advance::Step),
        }
    }

    /// The boundary that the session stands at, counted.
    fn stand(&mut self) -> At {
        self.coverage.note(Stand::of(self.session), false);
        let addr = self.session.machine().rip();
        At { addr, n: self.counts.visit(addr) }
    }

    /// An NMI arrives at this boundary, and what follows is swept. The session comes
    /// back to where it was.
    fn fork(&mut self, at: At, level: usize, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        self.session.save(&mut self.saved[level]);
        let mark = self.counts.path.len();
        let kind = self.arrive(at);
        let out = if level + 1 == self.limits.depth {
            self.last(level, kind, on_case)
        } else {
            self.walk(level + 1, on_case)
        };
        self.events.pop();
        self.counts.rewind(mark);
        self.session.restore(&self.saved[level]);
        out
    }

    /// Nothing arrives any more: the case runs freely to its verdict.
    fn last(&mut self, level: usize, kind: coverage::Kind, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        let mut verdict = match finish(self.session, &mut self.passed) {
            // What breaks the contract may have broken a rule before: this may be judged by steps.
            Err(broke @ Error::Contract(_)) => {
                let stepped = run(self.session, &Schedule(self.events.clone()), Gear::Step, &mut ())?;
                if !stepped.is_failure() {
                    return Err(broke.into());
                }
                stepped
            }
            end => end?,
        };
        if !verdict.is_pass() {
            // What the same rule ends in the same way, after NMIs in the same kind of context,
            // is stepped once in a unit; and so is what another gear runs again.
            let like = (self.events.len(), kind, verdict.to_string());
            let known = self.judged.get(&like).filter(|_| !self.is_rechecked()).cloned();
            verdict = match (known, &*self.limits.later) {
                (Some(known), _) => known,
                // All before this NMI was stepped.
                (None, Places::All) => self.step_from(level, verdict)?,
                (None, Places::Only(_)) => self.first_broken(verdict)?,
            };
            self.judged.entry(like).or_insert_with(|| verdict.clone());
        }
        let seen = self.look(level, kind)?;
        // Only where all before its last NMI was stepped, too, is the case seen whole.
        let stepped = seen.is_some() && *self.limits.later == Places::All && verdict.is_pass();
        let verdict = seen.filter(Verdict::is_failure).filter(|_| verdict.is_pass()).unwrap_or(verdict);
        self.case(&verdict, stepped && verdict.is_pass(), on_case)
    }

    /// What a free run has come to, judged again by steps from the last NMI on: see [`run`].
    fn step_from(&mut self, level: usize, free: Verdict) -> Result<Verdict, RunError> {
        self.session.restore(&self.saved[level]);
        self.session.arrive();
        let mut rounds = Rounds::default();
        loop {
            if let Some(verdict) = self.session.take_verdict() {
                return Ok(free.judged_again(verdict));
            }
            self.session.step(Raise::Events)?;
            self.session.watch_rounds(&mut rounds)?;
        }
    }

    /// The same by steps from *ready* on. The session must be restored afterwards.
    fn first_broken(&mut self, free: Verdict) -> Result<Verdict, RunError> {
        if free.is_pass() {
            return Ok(free);
        }
        let stepped = run(self.session, &Schedule(self.events.clone()), Gear::Step, &mut ())?;
        Ok(free.judged_again(stepped))
    }

    /// Follows the path to its end, and forks at each boundary where NMIs are placed.
    fn walk(&mut self, level: usize, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        let places = Arc::clone(&self.limits.later);
        let mut rounds = Rounds::default();
        loop {
            self.go_on(&places)?;
            self.session.watch_rounds(&mut rounds)?;
            if let Some(mut verdict) = self.session.take_verdict() {
                if *places != Places::All {
                    verdict = self.first_broken(verdict)?;
                }
                return self.case(&verdict, *places == Places::All && verdict.is_pass(), on_case);
            }
            let at = self.stand();
            if places.has(at.addr) && self.fork(at, level, on_case)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Whether the case at hand is run again in the arm gear. That depends on its place only,
    /// so that it is the same however the units are shared out.
    fn is_rechecked(&self) -> bool {
        let place = self.unit as u64 + self.index;
        self.limits.recheck > 0 && place.is_multiple_of(self.limits.recheck)
    }

    fn case(&mut self, verdict: &Verdict, stepped: bool, on_case: &mut OnCase) -> Result<ControlFlow<()>, RunError> {
        let again = self
            .is_rechecked()
            .then(|| Again::of(run(self.session, &Schedule(self.events.clone()), Gear::Arm, &mut ())));
        let again = again.transpose()?;
        let case = CaseResult { events: &self.events, verdict, index: self.index, again: again.as_ref(), stepped };
        self.index += 1;
        Ok(on_case(&case))
    }
}
