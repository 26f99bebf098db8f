//! What an NMI costs, by counting on stepped runs: the same numbers on every host.

use std::collections::HashSet;
use std::ops::Range;

use guest::abi;

use crate::inject::{Advance, Saved, Session};
use crate::machine::{Error, Raise};
use crate::oracle::Invariant;

/// The smallest and the largest value seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Span {
    /// The smallest.
    pub min: u64,
    /// Largest.
    pub max: u64,
}

impl Span {
    /// Takes another value in.
    fn add(span: &mut Option<Self>, value: u64) {
        *span = Some(match *span {
            None => Self { min: value, max: value },
            Some(s) => Self { min: s.min.min(value), max: s.max.max(value) },
        });
    }
}

/// What one scheme's NMIs cost in one scenario. Instructions are those of entry and
/// exit, and of faults' handlers; the body's own are counted apart, its marks not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Boundaries at which a first NMI was counted.
    pub samples: u64,
    /// Boundaries at which one was tried and broke a rule by itself; they are in no
    /// figure but this one.
    pub broken: u64,
    /// The first of these rules, in the order of the run.
    pub breaks: Option<Broke>,
    /// Instructions from the first NMI's delivery to the resume.
    pub first: Option<Span>,
    /// The body's instructions in that, its faults' handlers included.
    pub body: Option<Span>,
    /// Instructions from a nested NMI's delivery until what it interrupted goes on;
    /// none where no NMI is ever nested.
    pub nested: Option<Span>,
    /// Instructions that a nested NMI adds besides, until the outermost one's resume:
    /// what running the body again costs.
    pub repeated: Option<Span>,
    /// Most instructions in a row with NMIs blocked: the worst latency of an NMI.
    pub blocked: u64,
    /// Exits that the scheme asks for, for one NMI without another: hypercalls, and
    /// returns that the VMM plays.
    pub exits: u64,
    /// Of these, hypercalls.
    pub hypercalls: u64,
    /// Faults taken in it.
    pub faults: u64,
    /// Stack bytes in use at most, from the interrupted RSP, the NMI stack's top, or for
    /// what interrupts user code the top of the stack that it enters the kernel on.
    pub stack: u64,
    /// Boundaries of a first NMI at which a second was let in.
    pub nested_cases: u64,
    /// Of these, those whose run broke a rule; they are in no figure but this one.
    pub nested_broken: u64,
    /// The first of these rules.
    pub nested_breaks: Option<Broke>,
}

/// Golden boundaries at which a first NMI is counted, evenly over the golden run: every
/// n-th, beginning with the first. At each, a second is counted at every boundary of
/// the first where it can come in.
const SAMPLES: usize = 12;
/// Instructions after which an NMI is taken not to come back.
const MOST: u64 = 20_000;

/// Why nothing can be counted on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(into = "String")]
pub enum Broke {
    /// It broke this rule.
    Rule(Invariant),
    /// This KVM cannot show it.
    Host,
}

impl From<Broke> for String {
    fn from(why: Broke) -> Self {
        why.to_string()
    }
}

impl std::fmt::Display for Broke {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broke::Rule(rule) => rule.fmt(f),
            Broke::Host => f.write_str("host-limit"),
        }
    }
}

/// What happened on the way, from an arrival on.
#[derive(Clone, Default)]
struct Walk {
    /// Instructions of entry, exit and handlers.
    scheme: u64,
    /// Instructions of the body and its faults' handlers.
    body: u64,
    /// A nested NMI is on its way: neither back where it came from, nor in a body yet.
    nesting: bool,
    /// Its instructions.
    nested: u64,
    bodies: u64,
    blocked: u64,
    blocked_now: u64,
    exits: u64,
    hypercalls: u64,
    faults: u64,
    /// Lowest RSP on each declared stack.
    low: Vec<Option<u64>>,
}

/// How a walk came to its end.
#[derive(PartialEq, Eq)]
enum End {
    /// The interrupted code goes on.
    Resumed,
    /// A rule was broken.
    Broken(Broke),
}

impl Walk {
    fn new(session: &Session) -> Self {
        Self { low: vec![None; stacks(session).count()], ..Self::default() }
    }

    /// One instruction, or the delivery of what is latched. `Some` at the end.
    fn step(&mut self, session: &mut Session) -> Result<Option<End>, Error> {
        if session.deliverable() {
            session.deliver(Raise::Events)?;
        } else {
            let m = session.machine();
            let (blocked, in_body) = (m.blocked(), session.oracle().ghost.bodies > 0);
            let port = m.next_instruction().and_then(|d| d.port());
            session.advance(Advance::Step)?;
            match port {
                Some(abi::PORT_BODY_BEGIN) => self.body_begins(),
                Some(abi::PORT_BODY_END) => {}
                _ if self.nesting => self.nested += 1,
                _ if in_body => self.body += 1,
                _ => self.scheme += 1,
            }
            self.exits += u64::from(matches!(port, Some(abi::PORT_PV | abi::PORT_ERETS | abi::PORT_ERETU)));
            self.hypercalls += u64::from(port == Some(abi::PORT_PV));
            self.blocked_now = if blocked { self.blocked_now + 1 } else { 0 };
            self.blocked = self.blocked.max(self.blocked_now);
            let m = session.machine();
            self.faults += u64::from(m.idt().vector_of(m.rip()).is_some_and(|v| v != 2));
        }
        let rsp = session.machine().state().regs.rsp;
        for (low, stack) in self.low.iter_mut().zip(stacks(session)) {
            if stack.start < rsp && rsp <= stack.end {
                *low = Some(low.map_or(rsp, |l| l.min(rsp)));
            }
        }
        if let Some(verdict) = session.take_verdict().filter(|v| !v.is_pass()) {
            return Ok(Some(End::Broken(verdict.invariant().map_or(Broke::Host, Broke::Rule))));
        }
        if self.scheme + self.body + self.nested > MOST {
            return Ok(Some(End::Broken(Broke::Rule(Invariant::Progress))));
        }
        Ok(session.oracle().ghost.outer.is_none().then_some(End::Resumed))
    }

    /// A nested NMI that comes to a body has taken the outer one's place.
    fn body_begins(&mut self) {
        self.bodies += 1;
        if std::mem::take(&mut self.nesting) {
            self.scheme += std::mem::take(&mut self.nested);
        }
    }

    /// Stack bytes in use at most, where the interrupted code had `rsp`.
    fn stack_bytes(&self, session: &Session, rsp: u64) -> u64 {
        let used = |(low, stack): (&Option<u64>, Range<u64>)| {
            let from = if stack.start < rsp && rsp <= stack.end { rsp } else { stack.end };
            low.map_or(0, |low| from.saturating_sub(low))
        };
        self.low.iter().zip(stacks(session)).map(used).sum()
    }
}

fn stacks(session: &Session) -> impl Iterator<Item = Range<u64>> + '_ {
    session.machine().guest().image.declared.stacks.iter().map(|s| s.range.clone())
}

/// Counts, and finds a boundary to time NMIs at: one that no NMI's own code comes
/// through. The session's state there is returned.
pub fn count(session: &mut Session) -> Result<(Counts, Option<Saved>), Error> {
    let mut counts = Counts::default();
    let visits = session.rules().golden.visits.clone();
    let every = visits.len().div_ceil(SAMPLES).max(1);
    let mut timed = None;
    session.reset();
    for (i, visit) in visits.iter().enumerate() {
        if i % every == 0 && !visit.blocked && !visit.shadow {
            let here = session.saved();
            let addresses = first(session, &mut counts)?;
            session.restore(&here);
            if timed.is_none() && !addresses.contains(&visit.addr) {
                timed = Some(here);
            }
        }
        if i + 1 < visits.len() {
            session.advance(Advance::Step)?;
        }
    }
    Ok((counts, timed))
}

/// One NMI here; where it leaves NMIs open on its way, also one inside it at each such
/// boundary. Returns the addresses it came through.
fn first(session: &mut Session, counts: &mut Counts) -> Result<HashSet<u64>, Error> {
    let m = session.machine();
    // What interrupts user code comes to the top of the kernel's entry stack.
    let rsp = if m.state().sregs.cs.selector & 3 == 3 { m.entry_sp() } else { m.state().regs.rsp };
    let (mut walk, mut addresses, mut open) = (Walk::new(session), HashSet::new(), Vec::new());
    session.arrive();
    // The delivery.
    if let Some(End::Broken(rule)) = walk.step(session)? {
        counts.broken += 1;
        counts.breaks.get_or_insert(rule);
        return Ok(addresses);
    }
    loop {
        let m = session.machine();
        addresses.insert(m.rip());
        if !m.blocked() && !m.in_shadow() {
            open.push((session.saved(), walk.clone()));
        }
        match walk.step(session)? {
            None => {}
            Some(End::Broken(rule)) => {
                counts.broken += 1;
                counts.breaks.get_or_insert(rule);
                return Ok(addresses);
            }
            Some(End::Resumed) => break,
        }
    }
    counts.samples += 1;
    Span::add(&mut counts.first, walk.scheme);
    Span::add(&mut counts.body, walk.body);
    counts.blocked = counts.blocked.max(walk.blocked);
    counts.exits = counts.exits.max(walk.exits);
    counts.hypercalls = counts.hypercalls.max(walk.hypercalls);
    counts.faults = counts.faults.max(walk.faults);
    counts.stack = counts.stack.max(walk.stack_bytes(session, rsp));
    for (state, so_far) in open {
        session.restore(&state);
        second(session, so_far, &walk, rsp, counts)?;
    }
    Ok(addresses)
}

/// A second NMI at this boundary of a first, which costs `alone` without it.
fn second(session: &mut Session, mut walk: Walk, alone: &Walk, rsp: u64, counts: &mut Counts) -> Result<(), Error> {
    let here = (session.machine().rip(), session.machine().state().regs.rsp);
    counts.nested_cases += 1;
    session.arrive();
    let delivery = walk.step(session)?;
    walk.nesting = true;
    let mut returned = None;
    let end = loop {
        if let Some(end @ End::Broken(_)) = delivery {
            break end;
        }
        let m = session.machine();
        if walk.nesting && (m.rip(), m.state().regs.rsp) == here {
            walk.nesting = false;
            returned = Some(walk.nested);
        }
        if let Some(end) = walk.step(session)? {
            break end;
        }
    };
    if let End::Broken(rule) = end {
        counts.nested_broken += 1;
        counts.nested_breaks.get_or_insert(rule);
        return Ok(());
    }
    if let Some(nested) = returned {
        Span::add(&mut counts.nested, nested);
    }
    if walk.bodies > alone.bodies {
        Span::add(&mut counts.repeated, walk.scheme.saturating_sub(alone.scheme));
    }
    counts.blocked = counts.blocked.max(walk.blocked);
    counts.stack = counts.stack.max(walk.stack_bytes(session, rsp));
    Ok(())
}

/// Bytes of per-CPU state that the scheme has of its own: what it declares as scratch
/// or idle, outside stacks.
pub fn per_cpu_bytes(session: &Session) -> u64 {
    let rules = session.rules();
    let declared = &rules.guest.image.declared;
    let own = declared.scratch.iter().filter(|s| s.scheme.as_ref() == Some(&rules.scheme.name));
    let bytes: HashSet<u64> = own.map(|s| s.range.clone()).chain(rules.scheme.idle.iter().cloned()).flatten().collect();
    let in_stack = |at: &&u64| declared.stacks.iter().any(|s| s.range.contains(at));
    bytes.iter().filter(|at| !in_stack(at)).count() as u64
}
