//! How much of a trace is shown: everything, calls, or events only.

use super::format::Look;
use super::paint::{Ink, paint};
use super::plain::plain;
use super::trace::Step;

/// Which steps of a run are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Arrivals, deliveries, exceptions, and the frames that returns consume.
    Events,
    /// Calls, returns and the labels that execution comes to, besides.
    Calls,
    /// Every instruction.
    All,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Level::Events, Level::Calls, Level::All];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Events => "events",
            Level::Calls => "calls",
            Level::All => "all",
        }
    }

    /// What it shows, in a line of help.
    pub fn about(self) -> &'static str {
        match self {
            Level::Events => "Arrivals, deliveries, exceptions and returns",
            Level::Calls => "Calls, returns and labels, besides",
            Level::All => "Every instruction; repetitions of one are folded",
        }
    }

    /// Those of these steps that it shows.
    pub fn filtered(self, steps: &[Step]) -> Vec<Step> {
        steps.iter().filter(|step| self.shows(step)).cloned().collect()
    }

    /// Whether it shows a step.
    pub fn shows(self, step: &Step) -> bool {
        match (self, step) {
            (_, Step::Event { .. }) | (Level::All, _) => true,
            (Level::Events, Step::Instruction { .. }) => false,
            (Level::Calls, Step::Instruction { at, transfers, .. }) => *transfers || !at.contains("+0x"),
        }
    }
}

/// Turns steps into lines. What is left out is counted.
pub struct Fold {
    level: Level,
    look: Look,
    hidden: u64,
    /// The last that was left out.
    held: Option<Step>,
    /// The address of the last instruction, where nothing has happened since.
    last: Option<String>,
}

impl Fold {
    /// Before the first step.
    pub fn new(level: Level, look: Look) -> Self {
        Self { level, look, hidden: 0, held: None, last: None }
    }

    /// The lines that a step adds.
    pub fn lines(&mut self, step: &Step) -> Vec<String> {
        let (shown, here) = match step {
            Step::Event { .. } => (true, None),
            Step::Instruction { address, .. } => {
                let again = self.level == Level::All && self.last.as_ref() == Some(address);
                (self.level.shows(step) && !again, Some(address.clone()))
            }
        };
        self.last = here;
        if !shown {
            self.hidden += 1;
            self.held = Some(step.clone());
            return Vec::new();
        }
        let mut out = self.rest();
        let line = step.to_string();
        let line = plain(&line);
        out.push(match step {
            Step::Event { .. } => paint(&self.look, Ink::Event, &line),
            Step::Instruction { .. } => line.into_owned(),
        });
        out
    }

    /// What is still to be said at the end.
    pub fn rest(&mut self) -> Vec<String> {
        let held = self.held.take();
        match std::mem::take(&mut self.hidden) {
            0 => Vec::new(),
            // A repetition that is the only one takes no more room than its number would.
            1 if self.level == Level::All => held.iter().map(|step| plain(&step.to_string()).into_owned()).collect(),
            1 => vec![format!("{:>6} … 1 instruction", "")],
            n => vec![format!("{:>6} … {n} instructions", "")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: &str, transfers: bool) -> Step {
        Step::Instruction {
            number: 1,
            at: format!("{at}#1"),
            address: at.to_owned(),
            blocked: false,
            pending: false,
            shadow: false,
            depth: 0,
            bodies: 0,
            text: "nop".into(),
            source: None,
            changed: vec![],
            transfers,
        }
    }

    fn told(level: Level) -> Vec<String> {
        let again = || step("a+0x1", false);
        let run = [step("a", false), again(), again(), again(), step("a+0x2", true)];
        let mut fold = Fold::new(level, Look::default());
        let mut out: Vec<String> = run.iter().flat_map(|s| fold.lines(s)).collect();
        out.extend(fold.lines(&Step::Event { what: "an NMI arrives".into() }));
        out.extend(fold.lines(&step("b+0x9", false)));
        out.extend(fold.rest());
        out.iter().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn each_level_shows_less_and_says_how_much_less() {
        assert_eq!(
            told(Level::All),
            ["1 . . 0", "1 . . 0", "… 2 instructions", "1 . . 0", "** an NMI arrives", "1 . . 0"]
        );
        assert_eq!(
            told(Level::Calls),
            ["1 . . 0", "… 3 instructions", "1 . . 0", "** an NMI arrives", "… 1 instruction"]
        );
        assert_eq!(told(Level::Events), ["… 5 instructions", "** an NMI arrives", "… 1 instruction"]);
    }

    #[test]
    fn one_repetition_is_shown() {
        let mut fold = Fold::new(Level::All, Look::default());
        let told = [step("a", false), step("a", false), step("b", false)].map(|s| fold.lines(&s).len());
        assert_eq!(told, [1, 0, 2]);
    }
}
