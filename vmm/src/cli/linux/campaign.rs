//! Campaigns over Linux kernels.

use std::path::Path;

use super::args::Linux;
use super::kernel::{Plan, read};
use super::sweep::{How, Said, ending, header};
use crate::cli::failure::{Ending, Failure};
use crate::cli::interrupt::on_interrupt;
use crate::cli::opened::Opened;
use crate::cli::out::Out;
use crate::kernels::{Campaign, Document, Judged, RunJudgement};
use crate::report::Kind;

/// Runs a campaign file: one boot, and each run from there.
pub fn campaign(args: &Linux, file: &Path, mut opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let mut said = Said::new(args.output.outputs(Kind::JUDGES)?);
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    let campaign = Campaign::parse(&text).map_err(|why| Failure::Input { name: file.display().to_string(), why })?;
    let mut kernel = args.kernel.clone();
    if kernel.from.is_none() {
        let file = kernel.kernel.get_or_insert_with(|| campaign.kernel());
        opened.reads_only(file)?;
    }
    kernel.ram.get_or_insert(campaign.ram);
    kernel.boot_limit.get_or_insert(campaign.boot_limit);
    kernel.cmdline = format!("{} {}", campaign.cmdline, kernel.cmdline).trim().to_owned();
    let stop = on_interrupt();
    let plan = Plan {
        sites: campaign.runs.iter().flat_map(|run| run.sites.clone()).collect(),
        mutations: campaign.runs.iter().map(|run| [&kernel.mutate[..], &run.mutate[..]].concat()).collect(),
        schedule: None,
        faults: campaign.runs.iter().filter_map(|run| run.fault.clone()).collect(),
    };
    let mut booted = kernel.boot(&plan, opened, &stop)?;
    let lab = &mut booted.lab;
    lab.set_limit(args.case_limit());
    let mut document = Document::new(booted.info, lab);
    document.campaign = Some(campaign.name.clone());
    said.line(&format!("{}: {}", campaign.name, header(&document)), out)?;
    let how = How { kernel: &kernel, fault: None, case_limit: args.case_limit, stop: &stop };
    let mut as_expected = true;
    for (run, site) in campaign.runs.iter().flat_map(|run| run.sites.iter().map(move |site| (run, site))) {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            document.complete = false;
            break;
        }
        let mutations = [&kernel.mutate[..], &run.mutate[..]].concat();
        let whole = document.complete;
        let how = How { fault: run.fault.as_deref().or(args.fault_in_handler.as_deref()), ..how };
        let Judged { as_expected: ok, why } =
            match how.site(lab, (&mutations, site), &run.parts, &mut document, &mut said, out)? {
                Ok(defects) => run.judge(&defects),
                Err(why) => Judged { as_expected: false, why },
            };
        let done = !whole || document.complete;
        as_expected &= ok;
        let word = match (done, ok) {
            (false, _) => "interrupted",
            (true, true) => "as expected",
            (true, false) => "NOT AS EXPECTED",
        };
        said.line(&format!("{}: {word}: {why}\n", run.about), out)?;
        document.runs.push(RunJudgement {
            about: run.about.clone(),
            site: lab.show(lab.start().addr),
            defects_at: run.defects_at.clone(),
            as_expected: done.then_some(ok),
            why,
        });
    }
    said.write(&document, out)?;
    let missed = document.summary.missed > 0;
    Ok(match ending(&document) {
        Ending::Expected | Ending::Unexpected if as_expected && !missed => Ending::Expected,
        Ending::Expected => Ending::Unexpected,
        other => other,
    })
}
