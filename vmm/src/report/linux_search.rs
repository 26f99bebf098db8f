//! What a search of every pattern of NMIs over a real kernel found.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::format::{Look, Outcome, Report, Suite, Test};
use super::html::{Cell, Mood, Page, table};
use super::json::pretty;
use super::paint::{Ink, paint};
use super::plain::plain;
use crate::host_id::HostId;
use crate::kernels::pc::Assists;
use crate::kernels::{FaultBy, KernelInfo};
use crate::oracle::Verdict;

/// A violation, and how to see it again.
#[derive(Clone, Debug, Serialize)]
pub struct LinuxViolation {
    /// `violation`, `livelock` or `shutdown`.
    pub verdict: &'static str,
    /// The rule that is broken.
    pub invariant: Option<String>,
    /// What was seen, in one line.
    pub detail: String,
    /// A shortest schedule.
    pub schedule: String,
    /// The command line that runs it again.
    pub replay: String,
}

impl LinuxViolation {
    /// One that a case has confirmed.
    pub fn new(verdict: &Verdict, schedule: String, replay: String) -> Self {
        Self {
            verdict: verdict.word(),
            invariant: verdict.invariant().map(|i| i.to_string()),
            detail: verdict.detail().to_owned(),
            schedule,
            replay,
        }
    }
}

/// A search.
#[derive(Clone, Debug, Serialize)]
pub struct LinuxSearch {
    /// Where it was made.
    pub host: HostId,
    /// What was run.
    pub kernel: KernelInfo,
    /// What help the host needed.
    pub assists: Assists,
    /// What of the kernel no verdict says anything about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
    /// Where NMIs interrupt.
    pub site: String,
    /// Changes to the kernel's code.
    pub mutate: Vec<String>,
    /// What arrives: `nmi`, `unmask`, `fault`.
    pub events: Vec<&'static str>,
    /// Where the handler may fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What the handler takes there.
    #[serde(skip_serializing_if = "FaultBy::is_usual")]
    pub fault_by: FaultBy,
    /// `pass`, `violation`, `livelock`, `shutdown`; `open` where nothing was found but the search
    /// is not closed.
    pub verdict: &'static str,
    /// Nothing new appeared: every pattern of arrivals is covered.
    pub closed: bool,
    /// Why not, where it is not.
    pub bound: Option<String>,
    /// Distinct states.
    pub states: usize,
    /// Edges followed.
    pub edges: u64,
    /// Edges to known states.
    pub merged: u64,
    /// States found and not expanded.
    pub frontier: usize,
    /// Most NMIs on a shortest path to a state.
    pub arrivals: u32,
    /// States in which the interrupted code goes on, each of which was judged.
    pub returns: usize,
    /// Instructions that execution stood at with NMIs unblocked.
    pub boundaries: usize,
    /// Boundaries of the entry code where nothing unblocked NMIs, since no kernel survives that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<usize>,
    /// Words by which states are not told apart, since they count and nothing looks at them.
    pub counters: Vec<String>,
    /// Paths that were run again as cases, and passed.
    pub cross_checked: usize,
    /// Contexts in handlers that NMIs interrupt, where the search is by episodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contexts: Option<u64>,
    /// How many of them were searched: the others are alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episodes: Option<u64>,
    /// Wall time.
    pub seconds: f64,
    /// The first violation.
    pub violation: Option<LinuxViolation>,
    /// What the text begins with.
    #[serde(skip)]
    pub header: String,
}

impl LinuxSearch {
    fn words(&self) -> String {
        match (&self.violation, &self.bound) {
            (Some(v), _) => {
                let rule = v.invariant.as_ref().map_or(String::new(), |rule| format!("({rule})"));
                format!("{}{rule}: {}", v.verdict, v.detail)
            }
            (None, Some(why)) => format!("none, not closed: {why}"),
            (None, None) => "pass, closed".into(),
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let of = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let mut out = vec![
            ("site", self.site.clone()),
            ("events", self.events.join(", ")),
            (
                "states",
                format!(
                    "{} by {} edges, {} to known states; frontier {}",
                    self.states, self.edges, self.merged, self.frontier
                ),
            ),
            ("boundaries", format!("{} with NMIs unblocked", self.boundaries)),
            ("returns", format!("{} states in which the interrupted code goes on, each judged", self.returns)),
            ("NMIs", format!("{} at most on a shortest path to a state", self.arrivals)),
            ("counters", format!("{} (states are not told apart by these)", of(&self.counters))),
            ("checked", format!("{} paths run again as cases", self.cross_checked)),
            ("time", format!("{:.1} s", self.seconds)),
        ];
        if let (Some(all), Some(searched)) = (self.contexts.filter(|all| *all > 0), self.episodes) {
            let alike = format!("{all} places in a handler that NMIs interrupt, of which {searched} were searched");
            out.insert(6, ("episodes", format!("{alike}; the others are alike")));
        }
        if let Some(at) = &self.fault {
            let by = if self.fault_by.is_usual() { String::new() } else { format!(" ({})", self.fault_by.word()) };
            out.insert(2, ("fault", format!("at {at}{by}, or not, each time")));
        }
        if let Some(left) = self.left_out {
            out.insert(
                2,
                ("left out", format!("unmask at {left} boundaries of the entry code, where no kernel survives it")),
            );
        }
        if !self.mutate.is_empty() {
            out.insert(1, ("mutate", self.mutate.join(", ")));
        }
        out
    }
}

impl Report for LinuxSearch {
    fn text(&self, look: &Look) -> String {
        let ink = match (&self.violation, self.closed) {
            (Some(_), _) => Ink::Bad,
            (None, true) => Ink::Good,
            (None, false) => Ink::Warn,
        };
        let mut out = format!("{}\n\n", self.header);
        let mut line = |name: &str, text: &str| {
            let _ = writeln!(out, "{name:10} {text}"); // a String takes everything
        };
        line("verdict", &paint(look, ink, &plain(&self.words())));
        self.facts().iter().for_each(|(name, text)| line(name, &plain(text)));
        if let Some(v) = &self.violation {
            line("schedule", &plain(&v.schedule));
            line("replay", &plain(&v.replay));
        }
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }

    fn suite(&self) -> Option<Suite> {
        let outcome = match (&self.violation, self.closed) {
            (Some(v), _) => {
                Outcome::Failed { message: self.words(), lines: vec![v.schedule.clone(), v.replay.clone()] }
            }
            (None, true) => Outcome::Passed,
            (None, false) => Outcome::Failed { message: self.words(), lines: vec![] },
        };
        let name = format!("{} ({})", self.site, self.events.join(", "));
        let properties = vec![
            ("host", self.host.to_string()),
            ("kernel", format!("{} ({})", self.kernel.version, self.kernel.image)),
        ];
        let command = format!("{} explore", self.kernel.command());
        let tests = vec![Test { class: command.clone(), name, outcome }];
        Some(Suite { name: command, properties, tests })
    }

    fn page(&self) -> Option<Page> {
        let mood = match (&self.violation, self.closed) {
            (Some(_), _) => Mood::Bad,
            (None, true) => Mood::Good,
            (None, false) => Mood::Warn,
        };
        let found = self.violation.iter().map(|v| {
            vec![
                Cell::text(&v.schedule),
                Cell::judged(Mood::Bad, v.verdict),
                Cell::text(&v.detail),
                Cell::text(&v.replay),
            ]
        });
        let found: Vec<_> = found.collect();
        Some(Page {
            title: format!("Every pattern of NMIs at {}", self.site),
            lead: self.words(),
            mood,
            facts: self.facts(),
            parts: vec![table("Violations", &["schedule", "verdict", "detail", "replay"], &found)],
        })
    }
}
