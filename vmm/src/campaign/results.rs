//! The results of a campaign, whole or in part, and what they say. What they look like
//! is the business of [`crate::report`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::generate::{Generate, Window};
use super::plan::{Plan, Work};
use super::tally::Tally;
use crate::folder::{Shard, Subject, other_program, program};
use crate::host_id::HostId;
use crate::image::Mode;
use crate::kvm::Host;
use crate::machine::Knobs;
use crate::machine::hv_bug::HvBug;
use crate::oracle::{Expectation, VerdictKind};

/// Version of the result folder's format.
const FORMAT: u32 = 5;

/// What results are about. Results can be put together, and a run resumed, only where
/// all of this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    /// Version of this program, and a hash of its file.
    program: String,
    /// The guest image's hash.
    pub image: String,
    /// Where it was measured.
    pub host: HostId,
    /// The campaign's name.
    pub name: String,
    /// What it is for.
    pub about: String,
    generate: Generate,
    window: Option<Window>,
    recheck: u64,
    faulting_iret_unblocks: bool,
    #[serde(default)]
    hv_bug: Option<HvBug>,
    /// The part of the units that is run.
    pub shard: Shard,
    /// Names of the image's declared stacks.
    pub stacks: Vec<String>,
    /// Schemes and scenarios.
    pub cells: Vec<CellHeader>,
    /// Of all the rest of the file.
    #[serde(default)]
    checksum: String,
}

/// A scheme and scenario of the campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellHeader {
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Who owns the NMI mask.
    pub mode: Mode,
    /// What the campaign says that its verdict is.
    pub expected: Expectation,
    first_unit: u64,
    /// Units of work that it is divided into.
    pub units: u64,
    /// Its scenario cannot be shown on this host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    not_here: bool,
}

impl Header {
    /// For a campaign that is about to be run here.
    pub fn new(plan: &Plan, host: &Host, shard: Shard) -> Self {
        let c = &plan.campaign;
        let cell = |cell: &super::plan::Cell| CellHeader {
            scheme: cell.target.scheme.name.clone(),
            scenario: cell.target.scenario.name.clone(),
            mode: cell.target.scheme.mode,
            expected: cell.expected.clone(),
            first_unit: cell.first_unit,
            units: cell.units,
            not_here: matches!(cell.work, Work::HostLimit(_)),
        };
        Self {
            format: FORMAT,
            program: program(),
            image: plan.guest.image.hash.clone(),
            host: host.id().clone(),
            name: c.name.clone(),
            about: c.about.clone(),
            generate: c.generate.value.clone(),
            window: c.window.as_ref().map(|w| w.value.clone()),
            recheck: c.recheck,
            faulting_iret_unblocks: c.knobs.faulting_iret_unblocks,
            hv_bug: c.knobs.hv_bug,
            shard,
            stacks: plan.guest.image.declared.stacks.iter().map(|s| s.name.clone()).collect(),
            cells: plan.cells.iter().map(cell).collect(),
            checksum: String::new(),
        }
    }

    /// The model's choices that its cases were run under.
    pub fn knobs(&self) -> Knobs {
        Knobs { faulting_iret_unblocks: self.faulting_iret_unblocks, hv_bug: self.hv_bug, ..Knobs::default() }
    }

    /// How its schedules are generated, in words.
    pub fn generate_words(&self) -> String {
        let knob = if self.faulting_iret_unblocks { "" } else { "; a faulting iret keeps NMIs blocked" };
        match self.window.as_ref().map(Window::to_string).filter(|w| !w.is_empty()) {
            Some(window) => format!("{}; {window}{knob}", self.generate),
            None => format!("{}{knob}", self.generate),
        }
    }
}

impl Subject for Header {
    const KIND: &'static str = "guest";
    const FORMAT: u32 = FORMAT;

    fn shard(&self) -> Shard {
        self.shard
    }

    fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    fn units(&self) -> u64 {
        self.cells.last().map_or(0, |c| c.first_unit + c.units)
    }

    fn checksum_mut(&mut self) -> &mut String {
        &mut self.checksum
    }

    /// Whether its cells lie one after the other, and are so few that sums over them cannot
    /// overflow (see [`Tally::is_plausible`]).
    fn is_plausible(&self) -> bool {
        const MOST_UNITS: u64 = 1 << 26;
        let next = |next: u64, c: &CellHeader| {
            let end = c.first_unit.checked_add(c.units).filter(|end| *end <= MOST_UNITS);
            end.filter(|_| c.first_unit == next)
        };
        self.cells.iter().try_fold(0, next).is_some()
    }

    /// What is expected of the cells may differ.
    fn difference(&self, other: &Header) -> Option<String> {
        let differs = |what: &str, a: &str, b: &str| (a != b).then(|| format!("{what} {a}, and not of {b}"));
        let cells = |h: &Header| {
            let cell = |c: &CellHeader| (c.scheme.clone(), c.scenario.clone(), c.mode, c.first_unit, c.units);
            h.cells.iter().map(cell).collect::<Vec<_>>()
        };
        let how = |h: &Header| (h.generate.clone(), h.window.clone(), h.recheck, h.faulting_iret_unblocks, h.hv_bug);
        differs("guest image", &self.image, &other.image)
            .or_else(|| differs("host", &self.host.to_string(), &other.host.to_string()))
            .or_else(|| other_program(&self.program, &other.program))
            .or_else(|| (self.format != other.format).then(|| "another version of the format".into()))
            .or_else(|| differs("the campaign", &self.name, &other.name))
            .or_else(|| (how(self) != how(other)).then(|| "a campaign that generates other schedules".into()))
            .or_else(|| (cells(self) != cells(other)).then(|| "a campaign with other schemes or scenarios".into()))
    }

    fn expects_as(&self, other: &Header) -> bool {
        self.cells == other.cells
    }
}

/// Results of the units that were run.
#[derive(Clone, Debug)]
pub struct Results {
    /// What they are about.
    pub header: Header,
    /// The tallies of finished units, by the unit's number.
    pub units: BTreeMap<u64, Tally>,
    /// Units that were stopped before their end; what they found counts, but they are
    /// run again.
    pub partial: BTreeMap<u64, Tally>,
}

impl Results {
    /// Whether every unit of every shard was run.
    pub fn complete(&self) -> bool {
        self.units.len() as u64 == self.header.units()
    }

    /// What came of each scheme and scenario, in the order of the header's cells.
    pub fn rows(&self) -> Vec<RowResult<'_>> {
        self.header.cells.iter().map(|c| self.row(c)).collect()
    }

    fn row<'a>(&self, cell: &'a CellHeader) -> RowResult<'a> {
        let range = cell.first_unit..cell.first_unit + cell.units;
        let mut tally = Tally::default();
        let mut whole = 0;
        for unit in self.units.range(range.clone()) {
            tally.merge(unit.1);
            whole += 1;
        }
        self.partial.range(range).for_each(|unit| tally.merge(unit.1));
        // Where nothing was run, nothing was judged.
        let verdict = (tally.cases > 0).then(|| tally.worst().map_or(VerdictKind::PASS, |f| f.kind));
        let fits = verdict.is_some_and(|verdict| cell.expected.fits(verdict));
        let as_expected = match () {
            () if verdict.is_none() => None,
            // Neither: a case that was not run says nothing about the guest.
            () if cell.not_here && !fits => None,
            () if whole == cell.units => Some(fits),
            // More cases can only add failures.
            () if cell.expected.is_pass() && !fits => Some(false),
            () => None,
        };
        RowResult { cell, tally, verdict, as_expected, units: whole }
    }
}

/// What came of one scheme and scenario.
#[derive(Clone, Debug)]
pub struct RowResult<'a> {
    /// The scheme and scenario.
    pub cell: &'a CellHeader,
    /// All of its cases together.
    pub tally: Tally,
    /// The verdict that stands for all of them; `None` where no case was run.
    pub verdict: Option<VerdictKind>,
    /// Whether it is the one expected; not known while more cases could change it, nor
    /// where this host cannot show the scenario.
    pub as_expected: Option<bool>,
    /// Units of work that were run to their end.
    pub units: u64,
}
