//! Verdicts expected, as campaigns write them: `pass`, `violation`, `violation(I5)`.

use std::fmt;
use std::str::FromStr;

use crate::oracle::Verdict;

/// What a verdict is, without its invariant and detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// No rule was broken.
    Pass,
    /// A rule was broken.
    Violation,
    /// The run goes round for ever.
    Livelock,
    /// Triple fault.
    Shutdown,
    /// This KVM cannot show it.
    HostLimit,
}

impl Word {
    /// All of them.
    pub const ALL: [Word; 5] = [Word::Pass, Word::Violation, Word::Livelock, Word::Shutdown, Word::HostLimit];

    /// That of a verdict.
    pub fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Pass => Word::Pass,
            Verdict::Violation { .. } => Word::Violation,
            Verdict::Livelock { .. } => Word::Livelock,
            Verdict::Shutdown { .. } => Word::Shutdown,
            Verdict::HostLimit { .. } => Word::HostLimit,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Pass => "pass",
            Word::Violation => "violation",
            Word::Livelock => "livelock",
            Word::Shutdown => "shutdown",
            Word::HostLimit => "host-limit",
        }
    }
}

/// The verdict that a scheme and scenario are expected to have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expectation {
    word: Word,
    /// The invariant, where the campaign insists on one.
    invariant: Option<String>,
}

impl Default for Expectation {
    fn default() -> Self {
        Self { word: Word::Pass, invariant: None }
    }
}

impl Expectation {
    /// Whether it is `pass`.
    pub fn is_pass(&self) -> bool {
        self.word == Word::Pass
    }

    /// Whether a verdict is as expected.
    pub fn fits(&self, word: Word, invariant: Option<&str>) -> bool {
        self.word == word && self.invariant.as_deref().is_none_or(|i| Some(i) == invariant)
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word.as_str())?;
        self.invariant.as_ref().map_or(Ok(()), |i| write!(f, "({i})"))
    }
}

/// Not a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no verdict; there are: pass, violation, violation(I5) with I1 to I20, livelock, shutdown, host-limit"
)]
pub struct ExpectationError(String);

impl FromStr for Expectation {
    type Err = ExpectationError;

    fn from_str(text: &str) -> Result<Self, ExpectationError> {
        let bad = || ExpectationError(text.to_owned());
        let (word, invariant) = match text.strip_suffix(')').and_then(|t| t.split_once('(')) {
            Some((word, invariant)) => (word, Some(invariant)),
            None => (text, None),
        };
        let word = Word::ALL.into_iter().find(|w| w.as_str() == word).ok_or_else(bad)?;
        if let Some(invariant) = invariant {
            let number = invariant.strip_prefix('I').and_then(|n| n.parse::<u8>().ok());
            let canonical = number.is_some_and(|n| (1..=20).contains(&n) && invariant == format!("I{n}"));
            if word != Word::Violation || !canonical {
                return Err(bad());
            }
        }
        Ok(Self { word, invariant: invariant.map(str::to_owned) })
    }
}

impl TryFrom<String> for Expectation {
    type Error = ExpectationError;

    fn try_from(text: String) -> Result<Self, ExpectationError> {
        text.parse()
    }
}

impl From<Expectation> for String {
    fn from(e: Expectation) -> String {
        e.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_written_as_they_are_read() {
        for text in ["pass", "violation", "violation(I5)", "violation(I20)", "livelock", "shutdown", "host-limit"] {
            assert_eq!(text.parse::<Expectation>().unwrap().to_string(), text);
        }
        for text in ["", "passed", "violation(I0)", "violation(I21)", "violation(I05)", "violation(5)", "pass(I5)"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_invariant_is_insisted_on_only_where_it_is_written() {
        let any: Expectation = "violation".parse().unwrap();
        let five: Expectation = "violation(I5)".parse().unwrap();
        assert!(any.fits(Word::Violation, Some("I8")) && five.fits(Word::Violation, Some("I5")));
        assert!(!five.fits(Word::Violation, Some("I8")) && !any.fits(Word::Livelock, Some("I17")));
    }
}
