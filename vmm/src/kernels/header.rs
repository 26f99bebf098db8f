//! What sweeps over a kernel are about, and what came of a part of them: the header and the units
//! of a result folder ([`crate::folder`]).

use serde::{Deserialize, Serialize};

use super::campaign::Part;
use super::fault_by::FaultBy;
use super::kind::Kind;
use super::pc::Assists;
use super::row::{CaseRow, KernelInfo};
use crate::folder::{Record, Shard, Subject, other_program};
use crate::host_id::HostId;

/// Cases of a unit of work. What one case comes to may depend on those before it in its unit (how
/// often a livelock is given more time), and on nothing else.
pub const UNIT: usize = 64;
/// Every so many cases of a unit, one is run again by the other way to raise NMIs.
pub const RECHECK: u64 = 16;
/// Version of the format.
const FORMAT: u32 = 1;

/// What results are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub(super) kind: String,
    pub(super) format: u32,
    /// Version of this program, and a hash of its file.
    pub(super) program: String,
    /// Where it was measured.
    pub host: HostId,
    /// What was run.
    pub kernel: KernelInfo,
    /// What help the host needed until the kernel was up.
    pub assists: Assists,
    /// What of the kernel no verdict says anything about, since its symbols do not name it.
    pub unchecked: Vec<String>,
    /// The campaign's name, where there is one.
    pub name: Option<String>,
    /// The words that run this kernel again.
    pub command: String,
    /// CPU time for a case, in milliseconds.
    pub case_limit: u64,
    /// The part of the units that is run.
    pub shard: Shard,
    /// Changes to the kernel, and a site, from where sweeps are made.
    pub groups: Vec<Group>,
    /// The sweeps.
    pub cells: Vec<CellHeader>,
    pub(super) checksum: String,
}

/// Changes to the kernel, and a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What it is for; empty without a campaign.
    pub about: String,
    /// The site, as it was named; empty for the default.
    pub asked: String,
    /// Where the first NMI arrives.
    pub site: String,
    /// Changes to the kernel's code.
    pub mutate: Vec<String>,
    /// Where #1's handler faults in every case, as it was named.
    pub fault: Option<String>,
    /// The place that this is.
    pub fault_at: Option<String>,
    /// What a fault is.
    pub fault_by: FaultBy,
    /// What NMIs here may write outside their stacks, by name.
    pub written: Vec<String>,
    /// Where defects must show.
    pub defects_at: Vec<String>,
    /// Why it could not be swept, or not all of it.
    pub error: Option<String>,
}

/// One sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellHeader {
    /// Its group.
    pub group: usize,
    /// What goes from boundary to boundary.
    pub part: Part,
    /// How it finds NMIs.
    pub nmis: Kind,
    /// How many cases it has.
    pub cases: u64,
    /// Number of its first unit.
    pub first_unit: u64,
    /// Units of work that it is divided into.
    pub units: u64,
}

/// What came of the cases of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Each case, without its replay line.
    pub rows: Vec<CaseRow>,
    /// Cases run again with NMIs raised by `KVM_NMI`.
    pub rechecked: u64,
    /// Of these, how many came to another verdict.
    pub disagreed: u64,
}

impl Header {
    /// The number of the cell that a unit belongs to.
    pub fn cell_of(&self, unit: u64) -> usize {
        self.cells.partition_point(|c| c.first_unit + c.units <= unit)
    }
}

impl Subject for Header {
    const KIND: &'static str = "kernel";
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

    fn is_plausible(&self) -> bool {
        const MOST_UNITS: u64 = 1 << 26;
        let next = |next: u64, c: &CellHeader| {
            let end = c.first_unit.checked_add(c.units).filter(|end| *end <= MOST_UNITS);
            let fits = c.first_unit == next && c.group < self.groups.len() && c.units == c.cases.div_ceil(UNIT as u64);
            end.filter(|_| fits)
        };
        self.cells.iter().try_fold(0, next).is_some()
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let differs = |what: &str, a: &str, b: &str| (a != b).then(|| format!("{what} {a}, and not of {b}"));
        let name = |h: &Self| h.name.clone().unwrap_or_else(|| "without a name".into());
        let groups = |h: &Self| {
            let about = |g: &Group| (g.asked.clone(), g.mutate.clone(), g.fault.clone(), g.fault_by, g.written.clone());
            h.groups.iter().map(about).collect::<Vec<_>>()
        };
        differs("kernel", &self.kernel.image, &other.kernel.image)
            .or_else(|| differs("the kernel's command line", &self.kernel.cmdline, &other.kernel.cmdline))
            .or_else(|| differs("host", &self.host.to_string(), &other.host.to_string()))
            .or_else(|| other_program(&self.program, &other.program))
            .or_else(|| differs("a campaign", &name(self), &name(other)))
            .or_else(|| differs("a case limit of", &self.case_limit.to_string(), &other.case_limit.to_string()))
            .or_else(|| (groups(self) != groups(other)).then(|| "other sites, or changes of the kernel,".into()))
            .or_else(|| (self.cells != other.cells).then(|| "other sweeps".into()))
    }

    fn expects_as(&self, other: &Self) -> bool {
        let expected = |h: &Self| h.groups.iter().map(|g| g.defects_at.clone()).collect::<Vec<_>>();
        expected(self) == expected(other)
    }
}

impl Record for Unit {
    fn is_plausible(&self) -> bool {
        let cases = self.rows.len();
        cases <= UNIT && self.rechecked <= cases as u64 && self.disagreed <= self.rechecked
    }
}
