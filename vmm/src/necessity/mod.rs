//! Which instruction of an entry path is needed, and for what: each is changed in turn, and every
//! scenario that the path survives as it is is searched again.

mod header;
pub mod kernel;
mod work;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::host_id::HostId;
use crate::image::changes::Alteration;
use crate::image::declare::{Scenario, Scheme};
use crate::image::{Guest, Mode};
use crate::kvm::Host;
use crate::machine::Knobs;

pub use header::{Header, answer};
pub use work::{necessity, rule};

/// What to ask.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is done to each instruction.
    pub alterations: Vec<Alteration>,
    /// States that each search may visit.
    pub max_states: usize,
    /// Ask every scenario, and not only until one breaks.
    pub every_scenario: bool,
}

/// Which path, of which image, in which scenarios.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Where it is run.
    pub host: &'a Host,
    /// The image.
    pub guest: &'a Arc<Guest>,
    /// The path.
    pub scheme: &'a Scheme,
    /// The scenarios; those that it does not survive as it is say nothing.
    pub scenarios: &'a [Scenario],
    /// The model's choices.
    pub knobs: Knobs,
}

/// A scenario, and whether it can say anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Its name.
    pub scenario: String,
    /// States of the search of the path as it is.
    pub states: u64,
    /// Why it is left out: the path as it is is not proved there. `None`: it is asked.
    pub left_out: Option<String>,
}

/// A way in which a changed path breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The scenario.
    pub scenario: String,
    /// The rule that the instruction upholds, as `I5`; `None` where the guest does not even run
    /// without an NMI.
    pub rule: Option<String>,
    /// What breaks, in one line.
    pub detail: String,
    /// The shortest schedule; empty where no NMI is needed.
    pub schedule: String,
    /// The command that shows it.
    pub command: String,
}

/// A change, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Address of the instruction.
    pub address: u64,
    /// The same as a place.
    pub place: String,
    /// The instruction.
    pub instruction: String,
    /// `file:line`, where the image says it.
    pub source: Option<String>,
    /// What was done to it.
    pub change: String,
    /// What breaks without it; empty: nothing that was asked.
    pub needs: Vec<Need>,
    /// Scenarios of which it is not known, each with the reason.
    pub unknown: Vec<(String, String)>,
}

impl Finding {
    /// Whether something breaks without it.
    pub fn is_needed(&self) -> bool {
        !self.needs.is_empty()
    }

    /// Whether every scenario was searched to its end, and nothing breaks.
    pub fn is_not_shown(&self) -> bool {
        self.needs.is_empty() && self.unknown.is_empty()
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Necessity {
    /// Where it was searched.
    pub host: HostId,
    /// Hash of the image as it is.
    pub image: String,
    /// The path.
    pub scheme: String,
    /// Who owns the NMI mask.
    pub mode: Mode,
    /// The scenarios, the quickest first.
    pub scenarios: Vec<Asked>,
    /// Changes, by address.
    pub findings: Vec<Finding>,
    /// Changes that were to be tried.
    pub of: usize,
    /// Nothing is missing.
    pub complete: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A search failed for a reason that is not the change's.
    #[error(transparent)]
    Explore(#[from] crate::explore::Error),
    /// There is nothing to ask.
    #[error("{scheme} is proved in none of these scenarios, so a change can break nothing: {why}")]
    Nothing {
        /// The path.
        scheme: String,
        /// Each scenario's reason.
        why: String,
    },
    /// It was stopped before there was anything to ask.
    #[error("interrupted before the path as it is was searched; nothing is kept of that")]
    Interrupted,
    /// The result folder, or a thread.
    #[error(transparent)]
    Folder(#[from] crate::folder::Error),
}
