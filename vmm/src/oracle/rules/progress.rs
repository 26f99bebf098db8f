//! Progress (I17): where nothing more arrives, the run ends.

use crate::oracle::Verdict;

/// The verdict on a run that came back to a state it had been in, with nothing left to arrive.
/// `length` is the round's in instructions; `at` names its lowest address.
pub fn goes_round(length: u64, at: &str) -> Verdict {
    let s = if length == 1 { "" } else { "s" };
    Verdict::Livelock { detail: format!("the same state again after {length} instruction{s}, at {at}") }
}

/// The verdict on a run that neither ended nor came back to a state within `limit`
/// instructions.
pub fn out_of_steps(limit: u64) -> Verdict {
    Verdict::Livelock { detail: format!("no end and no repeated state within {limit} instructions") }
}
