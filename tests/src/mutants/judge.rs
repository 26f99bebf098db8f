//! One mutant, searched in several ways, which must say the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;

use vmm::cpu::conform::Random;
use vmm::explore::{Config, Reductions, Report, explore};
use vmm::inject::{At, Event, Gear, Kind, Schedule, Session, Visitor, run};
use vmm::kvm::Host;
use vmm::machine::Knobs;

use super::Mutant;

/// How far mutants are searched without reductions.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// States of the search by the model that merges equal states only.
    pub states: usize,
    /// Guests of at most so many such states are stepped with arrivals everywhere, too.
    pub stepped: usize,
    /// Guests of at most so many such states are searched on KVM alone, too.
    pub on_kvm: usize,
    /// Random schedules that are stepped on KVM.
    pub schedules: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { states: 60_000, stepped: 1_000, on_kvm: 600, schedules: 6 }
    }
}

/// What one way of searching says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Pass, closed; with the deepest nesting, and the use of each stack.
    Proved(u32, Vec<(String, u64)>),
    /// Broken, by a shortest schedule of so many NMIs.
    Broken(usize, String),
    /// Not closed; why.
    Open(String),
    /// It cannot be searched; why.
    Refused(String),
}

impl Outcome {
    fn of(found: Result<Report, vmm::explore::Error>) -> Self {
        let report = match found {
            Ok(report) => report,
            Err(e) => return Self::Refused(e.to_string()),
        };
        if let Some(found) = report.violations.first() {
            return Self::Broken(found.schedule.0.len(), found.verdict.to_string());
        }
        match (report.bound, report.contradiction()) {
            (Some(bound), _) => Self::Open(format!("{bound:?}")),
            (None, Some(why)) => Self::Open(match report.deviations.first() {
                Some(d) => format!("{why:?} at {:#x}: {}", d.at, d.what),
                None => format!("{why:?}"),
            }),
            (None, None) => Self::Proved(report.max_nesting, report.stacks),
        }
    }

    /// Whether it claims that the code is right.
    pub fn is_proved(&self) -> bool {
        matches!(self, Self::Proved(..))
    }

    /// Whether it is a violation.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken(..))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proved(nesting, stacks) => write!(f, "proved ({nesting} nested, stacks {stacks:?})"),
            Self::Broken(nmis, what) => write!(f, "broken by {nmis} NMIs: {what}"),
            Self::Open(why) => write!(f, "not closed: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// What became of a mutant.
#[derive(Clone, Debug)]
pub struct Judged {
    /// With all reductions.
    pub reduced: Outcome,
    /// With equal states merged, and no others.
    pub whole: Outcome,
    /// In other ways, where it is small enough.
    pub others: Vec<(&'static str, Outcome)>,
    /// Where they contradict one another.
    pub difference: Option<String>,
}

/// Searches mutants.
pub struct Judge {
    host: Host,
    bounds: Bounds,
}

impl Judge {
    /// On this host.
    pub fn new(host: Host, bounds: Bounds) -> Self {
        Self { host, bounds }
    }

    fn reduced(&self, mutant: &Mutant, reductions: Reductions, max_states: usize) -> (Outcome, u64) {
        self.search(mutant, Config { reductions, max_states, jobs: 1, cross_check: 4, ..Config::default() })
    }

    /// What a search says, and its states.
    pub fn search(&self, mutant: &Mutant, config: Config) -> (Outcome, u64) {
        let stop = AtomicBool::new(false);
        let target = (&mutant.scheme, &mutant.scenario);
        let found = explore(&self.host, &mutant.guest, target, Knobs::default(), config, &stop, &mut |_| {});
        let states = found.as_ref().map_or(0, |report| report.states);
        (Outcome::of(found), states)
    }

    /// Searches `mutant` in every way, and compares.
    pub fn judge(&self, mutant: &Mutant, seed: u64) -> Judged {
        let b = self.bounds;
        let plain = Reductions { merge_dead: false, merge_episodes: false, ..Reductions::default() };
        let stepped = Reductions { collapse: false, reduce: false, ..plain };
        let on_kvm = Reductions { model: false, ..plain };
        let (reduced, _) = self.reduced(mutant, Reductions::default(), 200_000);
        let (whole, states) = self.reduced(mutant, plain, b.states);
        let mut difference = contradiction("with all reductions", &reduced, "without", &whole);
        let mut others = vec![];
        for (name, reductions, most) in [("stepped", stepped, b.stepped), ("on KVM alone", on_kvm, b.on_kvm)] {
            // What is far too large for it would only cost time.
            if difference.is_some() || states > most as u64 {
                continue;
            }
            let (other, _) = self.reduced(mutant, reductions, most * 16);
            difference = contradiction("with all reductions", &reduced, name, &other);
            others.push((name, other));
        }
        if difference.is_none() && reduced.is_proved() {
            difference = self.broken_by_chance(mutant, seed);
        }
        Judged { reduced, whole, others, difference }
    }

    /// Steps random schedules on KVM. What is wrong, where one does not pass.
    fn broken_by_chance(&self, mutant: &Mutant, seed: u64) -> Option<String> {
        let (scheme, scenario) = (&mutant.scheme, &mutant.scenario);
        let mut session = Session::new(&self.host, &mutant.guest, scheme, scenario, Knobs::default()).ok()?;
        let mut random = Random::new(seed);
        for _ in 0..self.bounds.schedules {
            let mut schedule = Schedule(vec![]);
            for _ in 0..1 + random.below(3) {
                let mut seen = Boundaries::default();
                run(&mut session, &schedule, Gear::Step, &mut seen).ok()?;
                let last = schedule.0.last().map(|e: &Event| e.at);
                let from = last.and_then(|at| seen.list.iter().position(|b| *b == at)).map_or(0, |i| i + 1);
                let later = seen.list.get(from..).unwrap_or_default();
                if later.is_empty() {
                    break;
                }
                let at = later[random.below(later.len() as u64) as usize];
                schedule.0.push(Event { kind: Kind::Nmi, at });
            }
            let verdict = run(&mut session, &schedule, Gear::Step, &mut ()).ok()?;
            if verdict.is_failure() {
                return Some(format!("proved, and {} breaks it: {verdict}", schedule.show(session.rules().names())));
            }
        }
        None
    }
}

/// Whether two ways of searching contradict one another.
fn contradiction(one: &str, a: &Outcome, other: &str, b: &Outcome) -> Option<String> {
    let open = |o: &Outcome| matches!(o, Outcome::Open(_));
    let refused = |o: &Outcome| matches!(o, Outcome::Refused(_));
    let agree = match (a, b) {
        (Outcome::Proved(..), Outcome::Proved(..)) => a == b,
        (Outcome::Broken(x, _), Outcome::Broken(y, _)) => x == y,
        // A bound was hit, or KVM cannot: that is unknown.
        (_, b) if open(b) || refused(b) => true,
        (a, b) => (open(a) || refused(a)) && !b.is_proved() || open(a) && b.is_broken(),
    };
    (!agree).then(|| format!("{one}: {a}; {other}: {b}"))
}

#[derive(Default)]
struct Boundaries {
    list: Vec<At>,
    counts: HashMap<u64, u32>,
}

impl Visitor for Boundaries {
    fn boundary(&mut self, session: &Session) {
        let addr = session.machine().rip();
        let n = self.counts.entry(addr).or_default();
        *n += 1;
        self.list.push(At { addr, n: *n });
    }
}
