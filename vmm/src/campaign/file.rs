//! The campaign file: TOML, read strictly, with errors that name the line and what
//! would fit. docs/guide/campaigns.md describes it for users.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::error::Error;
use super::generate::{Generate, Window};
use crate::image::Mode;
use crate::machine::Knobs;
use crate::machine::hv_bug::HvBug;
use crate::oracle::Expectation;

/// Something that was written at a line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// What was read.
    pub value: T,
    /// The line, from 1.
    pub line: usize,
}

/// The schemes or scenarios of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// `"all"`: all but those that test the oracle or show a bug.
    All,
    /// Names or patterns with `*`.
    List(Vec<Located<String>>),
}

/// A campaign as it is written; its names are not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// The file's path, for messages.
    pub path: String,
    /// Its name, by which others refer to it.
    pub name: String,
    /// What it is for.
    pub about: String,
    /// Patterns of schemes' names.
    pub schemes: Names,
    /// Patterns of scenarios' names.
    pub scenarios: Names,
    /// Modes; all where empty.
    pub modes: Vec<Mode>,
    /// How schedules are generated.
    pub generate: Located<Generate>,
    /// Where events are placed, where that is restricted.
    pub window: Option<Located<Window>>,
    /// Every so many cases, one is run again in the arm gear; 0 is never.
    pub recheck: u64,
    /// Model knobs.
    pub knobs: Knobs,
    /// Expected verdicts by scheme and scenario; the rest is expected to pass.
    pub expect: Vec<Expected>,
}

/// An expected verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The scheme's name.
    pub scheme: Located<String>,
    /// The scenario, or a pattern with `*`.
    pub scenario: Located<String>,
    /// The verdict.
    pub verdict: Expectation,
}

/// One case in so many is rechecked, unless the file says otherwise: measured, this
/// adds less than a tenth to the time of a campaign.
const RECHECK: u64 = 64;

type ExpectTable = BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<String>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    about: String,
    schemes: Spanned<Value>,
    scenarios: Spanned<Value>,
    modes: Option<Vec<Mode>>,
    generate: Spanned<Value>,
    window: Option<Spanned<Window>>,
    recheck: Option<u64>,
    faulting_iret: Option<FaultingIret>,
    #[serde(alias = "fault")]
    hv_bug: Option<HvBug>,
    #[serde(default)]
    expect: ExpectTable,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FaultingIret {
    Unblocks,
    Keeps,
}

impl Campaign {
    /// Reads a file's text; `path` is for messages.
    pub fn parse(path: &str, text: &str) -> Result<Self, Error> {
        let source = Source { path, text };
        let raw: Raw = toml::from_str(text).map_err(|e| source.syntax(&e))?;
        let generate = Generate::read(raw.generate.get_ref())
            .map_err(|why| source.error(raw.generate.span().start, format!("generate: {why}")))?;
        let mut expect = Vec::new();
        for (scheme, table) in &raw.expect {
            for (scenario, verdict) in table {
                let verdict: Expectation =
                    verdict.get_ref().parse().map_err(|e| source.error(verdict.span().start, format!("{e}")))?;
                expect.push(Expected { scheme: source.located(scheme), scenario: source.located(scenario), verdict });
            }
        }
        let window = raw.window.map(|w| Located { line: source.line(w.span().start), value: w.into_inner() });
        if let Some(window) = &window {
            window.value.check(&generate).map_err(|why| source.at(window.line, format!("window: {why}")))?;
        }
        Ok(Self {
            path: path.to_owned(),
            schemes: source.names("schemes", &raw.schemes)?,
            scenarios: source.names("scenarios", &raw.scenarios)?,
            modes: raw.modes.unwrap_or_default(),
            generate: Located { line: source.line(raw.generate.span().start), value: generate },
            window,
            recheck: raw.recheck.unwrap_or(RECHECK),
            knobs: Knobs {
                faulting_iret_unblocks: raw.faulting_iret.is_none_or(|w| w == FaultingIret::Unblocks),
                hv_bug: raw.hv_bug,
                transport: None,
            },
            expect,
            name: raw.name,
            about: raw.about,
        })
    }

    /// An error about a line of this file.
    pub fn error(&self, line: usize, why: impl Into<String>) -> Error {
        Error::File { path: self.path.clone(), line, why: why.into() }
    }
}

/// The text, to turn positions into lines.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
    }

    fn at(&self, line: usize, why: String) -> Error {
        Error::File { path: self.path.to_owned(), line, why }
    }

    fn error(&self, at: usize, why: String) -> Error {
        self.at(self.line(at), why)
    }

    fn syntax(&self, e: &toml::de::Error) -> Error {
        let message = e.message().trim().replace('\n', "; ");
        self.error(e.span().map_or(0, |s| s.start), message)
    }

    fn located(&self, s: &Spanned<String>) -> Located<String> {
        Located { value: s.get_ref().clone(), line: self.line(s.span().start) }
    }

    /// `"all"` or a list of names.
    fn names(&self, key: &str, value: &Spanned<Value>) -> Result<Names, Error> {
        let span = value.span();
        let bad = |what: &str| self.error(span.start, format!("{key}: {what} (write \"all\" or a list of names)"));
        match value.get_ref() {
            Value::String(s) if s == "all" => Ok(Names::All),
            Value::String(s) => Err(bad(&format!("{s:?} is not a list"))),
            Value::Array(list) if list.is_empty() => Err(bad("the list is empty")),
            Value::Array(list) => {
                // A value in a list has no position of its own: it is looked for.
                let mut from = span.start;
                let mut names = Vec::new();
                for item in list {
                    let Value::String(name) = item else { return Err(bad("a name must be a string")) };
                    let found = self.text.get(from..span.end).and_then(|rest| rest.find(name.as_str()));
                    let line = self.line(from + found.unwrap_or(0));
                    from += found.map_or(0, |at| at + name.len());
                    names.push(Located { value: name.clone(), line });
                }
                Ok(Names::List(names))
            }
            _ => Err(bad("neither \"all\" nor a list")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "name = \"n\"\nschemes = \"all\"\nscenarios = [\"a\",\n  \"b\"]\ngenerate = \"points\"\n";

    fn error(text: &str) -> String {
        Campaign::parse("c.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_minimal_campaign_has_sensible_defaults() {
        let c = Campaign::parse("c.toml", MINIMAL).unwrap();
        assert_eq!((c.schemes, c.recheck, c.expect.len()), (Names::All, RECHECK, 0));
        let Names::List(scenarios) = c.scenarios else { panic!() };
        assert_eq!(scenarios.iter().map(|s| s.line).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn expectations_are_found_with_their_lines() {
        let text = format!("{MINIMAL}[expect.naive]\n\"*\" = \"pass\"\na = \"violation(I5)\"\n");
        let c = Campaign::parse("c.toml", &text).unwrap();
        assert_eq!(c.expect.len(), 2);
        let a = c.expect.iter().find(|e| e.scenario.value == "a").unwrap();
        assert_eq!((a.scheme.line, a.scenario.line, a.verdict.to_string()), (6, 8, "violation(I5)".to_owned()));
    }

    #[test]
    fn errors_name_the_line_and_what_would_fit() {
        assert_eq!(
            error(&MINIMAL.replace("scenarios", "scenario")),
            "c.toml:3: unknown field `scenario`, expected one of `name`, `about`, `schemes`, `scenarios`, `modes`, \
             `generate`, `window`, `recheck`, `faulting_iret`, `fault`, `hv_bug`, `expect`"
        );
        assert!(error(&MINIMAL.replace("points", "point")).starts_with("c.toml:5: generate: \"point\" is not known"));
        assert!(error(&format!("{MINIMAL}[expect.x]\ny = \"fail\"")).starts_with("c.toml:7: unknown verdict \"fail\""));
        assert!(error("name = ").starts_with("c.toml:1: "));
    }
}
