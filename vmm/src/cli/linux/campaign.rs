//! Campaigns over kernels.

use std::path::Path;

use super::args::Linux;
use super::sweep::{Said, Sweeps, ending};
use crate::cli::boot::{Plan, read};
use crate::cli::failure::{Ending, Failure};
use crate::cli::interrupt::on_interrupt;
use crate::cli::opened::Opened;
use crate::cli::out::Out;
use crate::kernels::{Campaign, CampaignRun, Document};
use crate::report::Kind;

/// Runs a campaign file: one boot, and each run from there.
pub fn campaign(args: &Linux, file: &Path, mut opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let mut said = Said::new(args.output.outputs(Kind::JUDGES)?);
    let campaign = parse(file)?;
    let mut kernel = args.kernel.clone();
    if kernel.from.is_none() {
        let named = kernel.kernel.take().or_else(|| campaign.kernel());
        let named =
            named.ok_or_else(|| Failure::Usage(format!("{} names no kernel, nor does --kernel", file.display())))?;
        opened.reads_only(kernel.kernel.insert(named))?;
    }
    kernel.ram.get_or_insert(campaign.ram);
    kernel.boot_limit.get_or_insert(campaign.boot_limit);
    kernel.cmdline = format!("{} {}", campaign.cmdline, kernel.cmdline).trim().to_owned();
    let stop = on_interrupt();
    let changed = |run: &CampaignRun| CampaignRun {
        mutate: [&kernel.mutate[..], &run.mutate[..]].concat(),
        fault: run.fault.clone().or_else(|| args.fault_in_handler.clone()),
        ..run.clone()
    };
    let runs: Vec<CampaignRun> = campaign.runs.iter().map(changed).collect();
    let plan = Plan {
        sites: runs.iter().flat_map(|run| run.sites.clone()).collect(),
        mutations: runs.iter().map(|run| run.mutate.clone()).collect(),
        schedule: None,
        faults: runs.iter().filter_map(|run| run.fault.clone()).collect(),
    };
    let booted = kernel.boot(&plan, opened, &stop)?;
    let (units, case_limit, command) = (&args.units, args.case_limit, kernel.command());
    let sweeps = Sweeps { units, case_limit, command, name: Some(campaign.name), runs: &runs, stop: &stop };
    let (document, finished) = sweeps.make(booted, &mut said, out)?;
    said.write(&document, out)?;
    Ok(as_expected(&document, ending(&document, args.units.shard.is_some() && finished)))
}

/// Reads a campaign file.
pub fn parse(file: &Path) -> Result<Campaign, Failure> {
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    Campaign::parse(&text).map_err(|why| Failure::Input { name: file.display().to_string(), why })
}

/// How a campaign ends whose sweeps end so: it says itself where defects must show.
pub fn as_expected(document: &Document, ending: Ending) -> Ending {
    let as_expected = document.runs.iter().all(|run| run.as_expected != Some(false));
    let missed = document.summary.missed > 0;
    match ending {
        Ending::Expected | Ending::Unexpected if as_expected && !missed => Ending::Expected,
        Ending::Expected => Ending::Unexpected,
        other => other,
    }
}
