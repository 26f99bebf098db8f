//! One case of a sweep, as it is reported.

use super::gears::RunError;
use super::schedule::Event;
use crate::oracle::Verdict;

/// A case that was run.
pub struct CaseResult<'a> {
    /// Its events.
    pub events: &'a [Event],
    /// What it was judged to be.
    pub verdict: &'a Verdict,
    /// Its number in its unit, from 0.
    pub index: u64,
    /// What the arm gear came to, where the case was run again in it.
    pub again: Option<&'a Again>,
    /// It passed, and the whole of it was stepped: the rules that hold at every boundary were
    /// asked at each.
    pub stepped: bool,
}

/// What came of a case in another gear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// It was judged.
    Judged(Verdict),
    /// It never came to one of its events; why, in words.
    NeverReached(String),
}

impl Again {
    /// Of a run in the other gear. A machine that failed is no judgement.
    pub fn of(run: Result<Verdict, RunError>) -> Result<Self, RunError> {
        match run {
            Ok(verdict) => Ok(Again::Judged(verdict)),
            Err(e @ RunError::NeverReached { .. }) => Ok(Again::NeverReached(e.to_string())),
            Err(e) => Err(e),
        }
    }
}

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Again::Judged(verdict) => verdict.fmt(f),
            Again::NeverReached(why) => f.write_str(why),
        }
    }
}
