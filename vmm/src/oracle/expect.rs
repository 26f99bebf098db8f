//! Verdicts expected, as campaigns write them: `pass`, `violation`, `violation(I5)`.

use std::fmt;
use std::str::FromStr;

use super::invariant::Invariant;
use super::verdict::{VerdictKind, Word};

/// The verdict that a scheme and scenario are expected to have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expectation {
    word: Word,
    /// The rule broken, where the campaign insists on one.
    invariant: Option<Invariant>,
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
    pub fn fits(&self, kind: VerdictKind) -> bool {
        self.word == kind.verdict && self.invariant.is_none_or(|i| Some(i) == kind.invariant)
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word.as_str())?;
        self.invariant.map_or(Ok(()), |i| write!(f, "({i})"))
    }
}

/// A text that names no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown verdict {0:?}; expected pass, violation, violation(I5) (I1 to I{count}), livelock, shutdown or host-limit",
    count = Invariant::ALL.len()
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
        let invariant = invariant.map(|i| i.parse().map_err(|_| bad())).transpose()?;
        if invariant.is_some() && word != Word::Violation {
            return Err(bad());
        }
        Ok(Self { word, invariant })
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
        for text in ["", "passed", "violation(I0)", "violation(I99)", "violation(I05)", "violation(5)", "pass(I5)"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_invariant_is_insisted_on_only_where_it_is_written() {
        let any: Expectation = "violation".parse().unwrap();
        let five: Expectation = "violation(I5)".parse().unwrap();
        let broke = |invariant| VerdictKind { verdict: Word::Violation, invariant: Some(invariant) };
        assert!(any.fits(broke(Invariant::Provenance)) && five.fits(broke(Invariant::NoReentry)));
        assert!(!five.fits(broke(Invariant::Provenance)) && !any.fits(VerdictKind::PASS));
        let livelock = VerdictKind { verdict: Word::Livelock, invariant: Some(Invariant::Progress) };
        assert!(!any.fits(livelock));
    }
}
