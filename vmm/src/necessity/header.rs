//! What an answer is about, and what came of one change: the header and the units of a result
//! folder ([`crate::folder`]).

use serde::{Deserialize, Serialize};

use super::{Asked, Finding, Necessity, Options, Subject};
use crate::folder::{Merged, Record, Shard, Subject as About, other_program, program};
use crate::host_id::HostId;
use crate::image::Mode;

/// Version of the format.
const FORMAT: u32 = 2;
/// Most changes, and most scenarios, that a header can have.
const MOST: usize = 1 << 20;

/// What an answer is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    kind: String,
    format: u32,
    /// Version of this program, and a hash of its file.
    program: String,
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
    /// Whether every scenario is asked, and not only until one breaks.
    pub every_scenario: bool,
    /// States that each search may visit.
    pub max_states: usize,
    /// What else answers depend on, in words; empty where nothing else does.
    pub asked_how: String,
    /// The changes, as `removed@0x…`, each a unit of work.
    pub changes: Vec<String>,
    /// The part of the changes that is tried.
    pub shard: Shard,
    checksum: String,
}

impl Header {
    pub(super) fn new(
        subject: &Subject,
        options: &Options,
        scenarios: Vec<Asked>,
        changes: Vec<String>,
        shard: Shard,
    ) -> Self {
        Self {
            scenarios,
            every_scenario: options.every_scenario,
            max_states: options.max_states,
            changes,
            shard,
            ..Self::of(
                subject.host.id().clone(),
                subject.guest.image.hash.clone(),
                subject.scheme.name.clone(),
                subject.scheme.mode,
            )
        }
    }

    /// About a path of this name, without anything that is asked of it.
    pub fn of(host: HostId, image: String, scheme: String, mode: Mode) -> Self {
        Self {
            kind: Self::KIND.into(),
            format: FORMAT,
            program: program(),
            host,
            image,
            scheme,
            mode,
            scenarios: Vec::new(),
            every_scenario: false,
            max_states: 0,
            asked_how: String::new(),
            changes: Vec::new(),
            shard: Shard::WHOLE,
            checksum: String::new(),
        }
    }

    /// The answer, as far as these findings give it.
    pub fn answer(&self, findings: Vec<Finding>) -> Necessity {
        let of = (0..self.units()).filter(|unit| self.shard.has(*unit)).count();
        Necessity {
            host: self.host.clone(),
            image: self.image.clone(),
            scheme: self.scheme.clone(),
            mode: self.mode,
            scenarios: self.scenarios.clone(),
            complete: findings.len() == of,
            findings,
            of,
        }
    }
}

impl About for Header {
    const KIND: &'static str = "necessity";
    const FORMAT: u32 = FORMAT;

    fn shard(&self) -> Shard {
        self.shard
    }

    fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    fn units(&self) -> u64 {
        self.changes.len() as u64
    }

    fn checksum_mut(&mut self) -> &mut String {
        &mut self.checksum
    }

    fn is_plausible(&self) -> bool {
        self.changes.len() <= MOST && self.scenarios.len() <= MOST
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let differs = |what: &str, a: &str, b: &str| (a != b).then(|| format!("{what} {a}, and not of {b}"));
        differs("image", &self.image, &other.image)
            .or_else(|| differs("host", &self.host.to_string(), &other.host.to_string()))
            .or_else(|| other_program(&self.program, &other.program))
            .or_else(|| differs("scheme", &self.scheme, &other.scheme))
            .or_else(|| differs("a limit of", &self.max_states.to_string(), &other.max_states.to_string()))
            .or_else(|| differs("a question with", &self.asked_how, &other.asked_how))
            .or_else(|| (self.every_scenario != other.every_scenario).then(|| "another --every-scenario".into()))
            .or_else(|| (self.scenarios != other.scenarios).then(|| "other scenarios".into()))
            .or_else(|| (self.changes != other.changes).then(|| "other changes".into()))
    }

    fn expects_as(&self, _: &Self) -> bool {
        true
    }
}

impl Record for Finding {
    fn is_plausible(&self) -> bool {
        self.needs.len() + self.unknown.len() <= MOST
    }
}

/// The answer that folders hold together. Findings stand in the order of the changes.
pub fn answer(merged: &Merged<Header, Finding>) -> Necessity {
    merged.header.answer(merged.units.values().cloned().collect())
}
