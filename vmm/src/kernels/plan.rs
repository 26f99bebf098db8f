//! Which sweeps there are, and into how many units of work each is divided: the same for the same
//! kernel and request, on every machine.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::arrival::Start;
use super::campaign::CampaignRun;
use super::error::LabError;
use super::header::{CellHeader, Group, Header, UNIT};
use super::kind::Kind;
use super::lab::Lab;
use super::pc::Error;
use super::results::unchecked;
use super::row::KernelInfo;
use super::sweep::Sweep;
use crate::folder::{Shard, Subject, program};

/// What sweeps are made of, besides the lab.
pub struct Request<'a> {
    /// The campaign's name, where there is one.
    pub name: Option<String>,
    /// What is run.
    pub runs: &'a [CampaignRun],
    /// What runs.
    pub kernel: KernelInfo,
    /// The words that run this kernel again.
    pub command: String,
    /// CPU time for a case, in milliseconds.
    pub case_limit: u64,
    /// The part that is to be run.
    pub shard: Shard,
}

impl Header {
    /// Goes to every site once, to learn the lengths of the paths. A site that cannot be swept has
    /// an error, and the others are planned all the same.
    /// Errors: only [`Error::Interrupted`], where `stop` is set.
    pub fn plan(lab: &mut Lab, request: Request<'_>, stop: &AtomicBool) -> Result<Self, LabError> {
        let Request { name, runs, kernel, command, case_limit, shard } = request;
        let mut header = Self {
            kind: Self::KIND.into(),
            format: Self::FORMAT,
            program: program(),
            host: lab.host().clone(),
            assists: lab.pc().assists(),
            unchecked: unchecked(lab),
            kernel,
            name,
            command,
            case_limit,
            shard,
            groups: Vec::new(),
            cells: Vec::new(),
            checksum: String::new(),
        };
        for (run, site) in runs.iter().flat_map(|run| run.sites.iter().map(move |site| (run, site))) {
            if stop.load(Relaxed) {
                return Err(Error::Interrupted.into());
            }
            let mut group = Group {
                about: run.about.clone(),
                asked: site.clone(),
                site: site.clone(),
                mutate: run.mutate.clone(),
                fault: run.fault.clone(),
                fault_at: None,
                fault_by: run.fault_by,
                written: Vec::new(),
                defects_at: run.defects_at.clone(),
                error: None,
            };
            group.error = header.site(lab, run, &mut group, stop).err().map(|why| why.to_string());
            header.groups.push(group);
        }
        Ok(header)
    }

    /// Plans the sweeps of one site.
    fn site(&mut self, lab: &mut Lab, run: &CampaignRun, group: &mut Group, stop: &AtomicBool) -> Result<(), LabError> {
        lab.set_fault_by(group.fault_by);
        lab.go(&group.mutate, Start::Site(&group.asked))?;
        (group.site, group.written) = (lab.show(lab.start().addr), lab.written());
        let mut sweep = Sweep::new(lab, 0, stop);
        group.fault_at = group.fault.as_ref().map(|place| sweep.fault_in_handler(place)).transpose()?;
        for (part, nmis) in run.parts.iter().flat_map(|p| [(*p, Kind::Masked), (*p, Kind::Unmasked)]) {
            let cases = sweep.cases(part, nmis)?.len() as u64;
            let (first_unit, units) = (self.units(), cases.div_ceil(UNIT as u64));
            self.cells.push(CellHeader { group: self.groups.len(), part, nmis, cases, first_unit, units });
        }
        Ok(())
    }
}
