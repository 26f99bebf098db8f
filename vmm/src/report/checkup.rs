//! What a machine can and cannot do for the lab, and how each lack is cured.

use std::io::{self, Write};

use serde::Serialize;

use super::format::{Look, Outcome, Report, Suite, Test};
use super::json::pretty;
use super::paint::{Ink, paint};
use super::plain::plain;

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is there, and as it should be.
    Good,
    /// It is there in a part, or something does without it.
    Limited,
    /// It is not there, and something needs it.
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Limited => "limited",
            State::Missing => "MISSING",
        }
    }

    fn ink(self) -> Ink {
        match self {
            State::Good => Ink::Good,
            State::Limited => Ink::Warn,
            State::Missing => Ink::Bad,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What it is for.
    pub purpose: &'static str,
    /// What to do; `None` where there is nothing to do.
    pub cure: Option<String>,
    /// Whether no guest runs without it.
    pub required: bool,
}

/// What `vmm doctor` finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// The version of this program.
    pub version: &'static str,
    /// Whether guests can be run here.
    pub usable: bool,
    /// What was looked at.
    pub items: Vec<Item>,
}

impl Checkup {
    /// Of what was looked at.
    pub fn new(version: &'static str, items: Vec<Item>) -> Self {
        let usable = items.iter().all(|item| !item.required || item.state != State::Missing);
        Self { version, usable, items }
    }
}

impl Report for Checkup {
    fn text(&self, look: &Look) -> String {
        let name_width = self.items.iter().map(|item| item.name.len()).max().unwrap_or(0);
        let word_width = State::Missing.word().len();
        let mut out = String::new();
        for item in &self.items {
            let word = format!("{:<word_width$}", item.state.word());
            let found = plain(&item.found);
            out += &format!("{}  {:<name_width$}  {found}\n", paint(look, item.state.ink(), &word), item.name);
            if item.state == State::Good {
                continue;
            }
            let under = " ".repeat(word_width + 2 + name_width + 2);
            out += &format!("{under}for: {}\n", item.purpose);
            if let Some(cure) = &item.cure {
                out += &format!("{under}cure: {}\n", plain(cure));
            }
        }
        out += match self.usable {
            true => "\nGuests can be run on this machine.\n",
            false => "\nNo guest can be run on this machine: see what is MISSING.\n",
        };
        out
    }

    fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        pretty(self, to)
    }

    fn suite(&self) -> Option<Suite> {
        let test = |item: &Item| {
            let cure = || item.cure.iter().map(|cure| format!("cure: {cure}"));
            let outcome = match (item.state, item.required) {
                (State::Missing, true) => {
                    Outcome::Failed { message: item.found.clone(), lines: cure().collect::<Vec<_>>() }
                }
                (State::Good, _) => Outcome::Passed,
                _ => Outcome::Skipped(std::iter::once(item.found.clone()).chain(cure()).collect::<Vec<_>>().join("; ")),
            };
            Test { class: "machine".into(), name: item.name.into(), outcome }
        };
        Some(Suite {
            name: "vmm doctor".into(),
            properties: vec![("version", self.version.into())],
            tests: self.items.iter().map(test).collect(),
        })
    }
}
