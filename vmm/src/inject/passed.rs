//! The free end of a case in which nothing more arrives, remembered by its states.

use std::collections::HashSet;

use super::moves::Advance;
use super::session::Session;
use crate::machine::{Error, Raise};
use crate::oracle::Verdict;

/// States from which a run with nothing left to arrive is known to pass: it was run
/// from an equal state before. Most cases differ only until their NMI is over.
#[derive(Default)]
pub struct Passed {
    states: HashSet<u128>,
    /// Those that the run under way came through.
    trail: Vec<u128>,
}

/// Runs freely to the verdict, or to a state that is known to pass.
pub fn finish(session: &mut Session, passed: &mut Passed) -> Result<Verdict, Error> {
    passed.trail.clear();
    let time_reads = session.machine().time_reads();
    loop {
        let live = session.oracle().ghost.outer.is_some();
        if session.deliverable() {
            session.deliver(Raise::Events)?;
        } else {
            let shadowed = session.machine().pending() && session.machine().in_shadow();
            session.advance(if shadowed { Advance::Step } else { Advance::To(&[]) })?;
        }
        let verdict = match session.take_verdict() {
            Some(verdict) => verdict,
            None if live && session.oracle().ghost.outer.is_none() => {
                let state = session.state_hash();
                if !passed.states.contains(&state) {
                    passed.trail.push(state);
                    continue;
                }
                Verdict::Pass
            }
            None => continue,
        };
        // What has read time may come to another end from an equal state.
        if verdict.is_pass() && session.machine().time_reads() == time_reads {
            passed.states.extend(passed.trail.drain(..));
        }
        return Ok(verdict);
    }
}
