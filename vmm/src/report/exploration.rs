//! What an exploration found, for a reader and as JSON.

use std::fmt;

use serde::Serialize;

use super::coverage::CoverageRow;
use super::format::{Look, Outcome, Report as Shown, Suite, Test};
use super::heat::Heat;
use super::html::{Cell, Mood, Page, heat, story, table};
use super::paint::{Ink, paint};
use super::plain::plain;
use super::story::Story;
use crate::explore::{Bound, Contradiction, Report};
use crate::host_id::HostId;
use crate::inject::{Replay, Schedule};

/// A violation and how to see it again.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// `violation`, `livelock` or `shutdown`.
    pub verdict: String,
    /// The rule that is broken.
    pub invariant: Option<String>,
    /// What was seen, in one line.
    pub detail: String,
    /// A shortest schedule.
    pub schedule: String,
    /// The line that replays it.
    pub replay: String,
}

/// Bytes of a stack that were used.
#[derive(Clone, Debug, Serialize)]
pub struct StackUse {
    /// The stack's name.
    pub stack: String,
    /// The largest use over all states.
    pub bytes: u64,
}

/// The report of one search.
#[derive(Clone, Debug, Serialize)]
pub struct Exploration {
    /// Where it was made.
    pub host: HostId,
    /// Hash of the guest image.
    pub image: String,
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Who owns the NMI mask: `native` or `pv`.
    pub mode: String,
    /// `pass`, `violation`, `livelock`, `shutdown`; `open` where nothing was found but
    /// the search is not closed.
    pub verdict: String,
    /// Nothing new appeared: every pattern of arrivals is covered.
    pub closed: bool,
    /// Why not, where it is not.
    pub bound: Option<String>,
    /// Distinct states.
    pub states: u64,
    /// Edges followed.
    pub edges: u64,
    /// Edges to known states.
    pub merged: u64,
    /// States found and not expanded.
    pub frontier: u64,
    /// Most NMIs live at once.
    pub max_nesting: u32,
    /// How they nest ever deeper, where a limit was hit and they were seen to.
    pub growth: Option<Growth>,
    /// Instructions that execution stood at with NMIs unblocked.
    pub boundaries: u64,
    /// Of these, those that had an NMI injected.
    pub covered: u64,
    /// Boundaries by the kind of context (I20). A kind that is missing is unreachable, where
    /// the search is closed.
    pub coverage: Vec<CoverageRow>,
    /// Largest use of each declared stack.
    pub stacks: Vec<StackUse>,
    /// Explored paths that were run again in every gear.
    pub cross_checked: u64,
    /// Of these, those that came to another verdict.
    pub disagreements: u64,
    /// Different states with equal hashes, where that was checked.
    pub collisions: Option<u64>,
    /// Searches made until no more stack words were found to be live.
    pub rounds: u32,
    /// Interruptions, where those that are alike were searched once.
    pub episodes: Option<EpisodeCounts>,
    /// Every instruction was looked at; `false` where KVM alone ran chains freely, and I9 and I15
    /// were asked at their ends.
    pub stepped: bool,
    /// Chains of instructions that KVM executed, too, and came to the predicted state.
    pub confirmed: u64,
    /// Where it came to another.
    pub deviations: Vec<String>,
    /// Known deviations of this host that were predicted and met: `probe: what it does`.
    pub predicted: Vec<String>,
    /// Instructions that the model does not understand; each counts as reading everything.
    pub unknown: Vec<String>,
    /// Stack words that were held for dead and held a pattern instead of what the guest left there.
    pub poisoned: u64,
    /// Bytes for a visited state, the frontier apart.
    pub bytes_per_state: f64,
    /// Wall time of everything.
    pub seconds: f64,
    /// By kind, each with a shortest schedule.
    pub violations: Vec<Found>,
    /// The violations told step by step, where that was asked for.
    #[serde(skip)]
    pub stories: Vec<Story>,
    /// The scheme's entry code, where that was asked for.
    #[serde(skip)]
    pub heat: Option<Heat>,
}

impl Exploration {
    /// `words` gives a schedule's text and its replay line.
    pub fn new(
        host: HostId,
        about: &Replay,
        report: &Report,
        seconds: f64,
        words: &dyn Fn(&Schedule) -> (String, String),
        place: &dyn Fn(u64) -> String,
    ) -> Self {
        let found = |f: &crate::explore::Found| {
            let (schedule, replay) = words(&f.schedule);
            Found {
                verdict: f.verdict.word().into(),
                invariant: f.verdict.invariant().map(|i| i.to_string()),
                detail: f.verdict.detail().into(),
                schedule,
                replay,
            }
        };
        let violations: Vec<Found> = report.violations.iter().map(found).collect();
        let closed = report.is_closed();
        let stacks: Vec<String> = report.stacks.iter().map(|(name, _)| name.clone()).collect();
        let verdict = match violations.first() {
            Some(f) => f.verdict.clone(),
            None if closed => "pass".into(),
            None => "open".into(),
        };
        Self {
            host,
            image: about.image.clone(),
            scheme: about.scheme.clone(),
            scenario: about.scenario.clone(),
            mode: about.mode.to_string(),
            verdict,
            closed,
            bound: match (report.bound, report.contradiction()) {
                (Some(bound), _) => Some(why(bound).to_owned()),
                (None, contradiction) => contradiction.map(|c| contradicted(c, report)),
            },
            states: report.states,
            edges: report.edges,
            merged: report.merged,
            frontier: report.frontier,
            max_nesting: report.max_nesting,
            growth: report.growth.as_ref().map(|g| {
                let (schedule, replay) = words(&g.schedule);
                Growth { at: place(g.at), bytes: g.bytes, nmis: g.nmis, schedule, replay }
            }),
            boundaries: report.boundaries,
            covered: report.covered,
            coverage: super::coverage::rows(&report.coverage, &stacks),
            stacks: report.stacks.iter().map(|(s, b)| StackUse { stack: s.clone(), bytes: *b }).collect(),
            cross_checked: report.cross_checked,
            disagreements: report.disagreements,
            collisions: report.collisions,
            rounds: report.rounds,
            episodes: report.episodes.map(|e| EpisodeCounts { all: e.all, searched: e.searched, endings: e.endings }),
            stepped: report.stepped,
            confirmed: report.confirmed,
            deviations: report.deviations.iter().map(|d| format!("{:#x}: {}", d.at, d.what)).collect(),
            predicted: report.predicted(),
            unknown: report.unknown.iter().map(|u| format!("{:#x}: {}", u.at, u.why)).collect(),
            poisoned: report.poisoned,
            bytes_per_state: report.visited_bytes as f64 / report.states.max(1) as f64,
            seconds,
            violations,
            stories: Vec::new(),
            heat: None,
        }
    }
}

/// Nesting that only the size of the stack bounds.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// The instruction that each further NMI interrupts.
    pub at: String,
    /// Bytes of stack that each takes.
    pub bytes: u64,
    /// How many are live at the schedule's end.
    pub nmis: u32,
    /// A schedule that shows it.
    pub schedule: String,
    /// The line that replays it.
    pub replay: String,
}

/// Interruptions of contexts with no NMI live.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EpisodeCounts {
    /// All of them.
    pub all: u64,
    /// Those that were searched.
    pub searched: u64,
    /// Ways to end, executed from each context.
    pub endings: u64,
}

/// What stands against a proof, in a line.
fn contradicted(c: Contradiction, report: &Report) -> String {
    match (c, report.reads_time) {
        (Contradiction::Time, Some(at)) => {
            format!("the instruction at {at:#x} reads time or randomness, which no machine state holds")
        }
        (Contradiction::Time, None) => "an instruction reads time or randomness".into(),
        (Contradiction::Deviation, _) => {
            "KVM did not come to the state that the model of the CPU predicted (vmm explore --no-model searches on KVM alone)".into()
        }
        (Contradiction::Poison, _) => match report.poison_at {
            Some(at) => format!("a stack word that was held for dead was used before {at:#x}"),
            None => "a stack word that was held for dead was used".into(),
        },
        (Contradiction::Gears, _) => "explored paths came to another verdict when they were run again".into(),
        (Contradiction::Seen, _) => {
            let what = report.seen.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("a search by episodes saw {what}, and the whole search did not (--every-episode leaves it out)")
        }
        (Contradiction::Host, _) => "this KVM could not execute an instruction, and what comes after it was not searched".into(),
        (Contradiction::Collision, _) => "different states had the same hash".into(),
    }
}

fn why(bound: Bound) -> &'static str {
    match bound {
        Bound::States => "the limit on states was hit (--max-states)",
        Bound::Memory => "the limit on memory was hit (--max-memory)",
        Bound::Violation => "it stopped at the first violation (--keep-going goes on)",
        Bound::Interrupted => "it was interrupted",
    }
}

impl Shown for Exploration {
    fn text(&self, look: &Look) -> String {
        let ink = match (&self.bound, self.violations.is_empty()) {
            (_, false) => Ink::Bad,
            (None, true) => Ink::Good,
            (Some(_), true) => Ink::Warn,
        };
        let colour = |line: &str| if line.starts_with("verdict ") { paint(look, ink, line) } else { line.to_owned() };
        let text = self.to_string();
        text.lines().map(|line| colour(line) + "\n").collect()
    }

    fn json(&self, to: &mut dyn std::io::Write) -> std::io::Result<()> {
        super::json::pretty(self, to)
    }

    fn page(&self) -> Option<Page> {
        let (mood, lead) = match &self.bound {
            None if self.violations.is_empty() => {
                (Mood::Good, "pass, closed: every number, timing and nesting of NMIs is covered".to_owned())
            }
            Some(why) if self.violations.is_empty() => (Mood::Warn, format!("no verdict, not closed: {why}")),
            Some(why) => (Mood::Bad, format!("{}, not closed: {why}", self.verdict)),
            None => (Mood::Bad, format!("{}, closed: there is no other kind", self.verdict)),
        };
        let context = |c: &CoverageRow| {
            vec![
                Cell::text(format!("CPL{}", c.cpl)),
                Cell::text(c.gs),
                Cell::text(c.rsp.as_deref().unwrap_or("no")),
                Cell::text(if c.blocked { "blocked" } else { "open" }),
                Cell::text(if c.pending { "pending" } else { "" }),
                Cell::number(c.boundaries),
                Cell::number(c.injected),
                Cell::number(c.latched),
                Cell::number(c.open),
            ]
        };
        let header = ["CPL", "GS", "stack", "NMIs", "P", "boundaries", "injected", "latched", "open"];
        let mut parts: Vec<_> = self.stories.iter().enumerate().map(|(i, s)| story(i, s)).collect();
        parts.extend(self.heat.iter().map(heat));
        let rows: Vec<_> = self.coverage.iter().map(context).collect();
        parts.push(table("Boundaries by context (I20)", &header, &rows));
        Some(Page {
            title: format!("{} / {} / {}", self.scheme, self.scenario, self.mode),
            lead,
            mood,
            facts: vec![
                ("states", format!("{} by {} edges, frontier {}", self.states, self.edges, self.frontier)),
                ("nesting", format!("{} NMIs live at once at most", self.max_nesting)),
                ("cross-check", format!("{} paths, {} disagreements", self.cross_checked, self.disagreements)),
                ("host", self.host.to_string()),
                ("image", self.image.clone()),
            ],
            parts,
        })
    }

    fn suite(&self) -> Option<Suite> {
        let of = |v: &Found| {
            let rule = v.invariant.as_deref().unwrap_or("-");
            [format!("{}({rule}: {})", v.verdict, v.detail), format!("vmm replay '{}'", v.replay)]
        };
        let outcome = match &self.bound {
            None if self.violations.is_empty() => Outcome::Passed,
            Some(why) if self.violations.is_empty() => {
                Outcome::Failed { message: format!("not closed: {why}"), lines: vec![] }
            }
            _ => Outcome::Failed {
                message: format!("{} instead of pass", self.verdict),
                lines: self.violations.iter().flat_map(of).collect(),
            },
        };
        Some(Suite {
            name: "vmm explore".into(),
            properties: vec![("host", self.host.to_string()), ("image", self.image.clone())],
            tests: vec![Test {
                class: self.scheme.clone(),
                name: format!("{} ({})", self.scenario, self.mode),
                outcome,
            }],
        })
    }
}

impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "host   {}\nimage  {}", self.host, self.image)?;
        writeln!(f, "\n{} / {} / {}", plain(&self.scheme), plain(&self.scenario), self.mode)?;
        match &self.bound {
            None if self.violations.is_empty() => {
                writeln!(f, "verdict      pass, closed: every number, timing and nesting of NMIs is covered")?;
            }
            None => writeln!(f, "verdict      {}, closed: there is no other kind", self.verdict)?,
            Some(why) if self.violations.is_empty() => {
                writeln!(
                    f,
                    "verdict      none, not closed: {why}; {} states, frontier {}",
                    self.states, self.frontier
                )?;
            }
            Some(why) => writeln!(f, "verdict      {}, not closed: {why}", self.verdict)?,
        }
        writeln!(f, "states       {} by {} edges ({} led to known states)", self.states, self.edges, self.merged)?;
        if let Some(e) = &self.episodes {
            writeln!(
                f,
                "episodes     {} interruptions with no NMI live, each of the class of one of {} that were searched",
                e.all, e.searched
            )?;
        }
        let agreed = self.confirmed.saturating_sub(self.deviations.len() as u64);
        writeln!(f, "confirmed    {agreed} distinct chains of instructions on KVM, {} not", self.deviations.len())?;
        for deviation in &self.deviations {
            writeln!(f, "  at {deviation}")?;
        }
        for predicted in &self.predicted {
            writeln!(f, "  this host deviates, as predicted: {predicted}")?;
        }
        if !self.stepped {
            writeln!(
                f,
                "             chains ran freely: I9 and I15 at their ends only (--stepped looks at each instruction)"
            )?;
        }
        for unknown in &self.unknown {
            writeln!(f, "  not understood, taken as reading everything: {unknown}")?;
        }
        writeln!(f, "nesting      {} NMIs live at once at most", self.max_nesting)?;
        if let Some(g) = &self.growth {
            writeln!(
                f,
                "depth        nothing but the stack bounds it: an NMI at {} nests one deeper each time, {} bytes further \
                 down\n  {} deep  {}\n  replay   vmm replay '{}'",
                plain(&g.at),
                g.bytes,
                g.nmis,
                plain(&g.schedule),
                plain(&g.replay)
            )?;
        }
        writeln!(f, "boundaries   {} with NMIs unblocked, {} of them injected at", self.boundaries, self.covered)?;
        for c in &self.coverage {
            let rsp = plain(c.rsp.as_deref().unwrap_or("no"));
            let mask = if c.blocked { "blocked" } else { "open" };
            let pending = if c.pending { ", pending" } else { "" };
            write!(f, "  CPL{} {} GS, {rsp} stack, {mask}{pending}: ", c.cpl, c.gs)?;
            writeln!(f, "{} = {} injected + {} latched + {} open", c.boundaries, c.injected, c.latched, c.open)?;
        }
        let stacks: Vec<_> = self.stacks.iter().map(|s| format!("{} {}", plain(&s.stack), s.bytes)).collect();
        writeln!(f, "stack use    {} bytes at most", stacks.join(", "))?;
        writeln!(f, "cross-check  {} paths in every gear, {} disagreements", self.cross_checked, self.disagreements)?;
        if let Some(n) = self.collisions {
            writeln!(f, "hashes       {n} collisions among {} states", self.states)?;
        }
        for v in &self.violations {
            let rule = v.invariant.as_deref().unwrap_or("");
            writeln!(
                f,
                "\n{}({rule}: {})\n  schedule  {}\n  replay    vmm replay '{}'",
                v.verdict,
                plain(&v.detail),
                plain(&v.schedule),
                plain(&v.replay)
            )?;
        }
        writeln!(f, "\ntime         {:.1} s, {:.1} bytes for a visited state", self.seconds, self.bytes_per_state)
    }
}
