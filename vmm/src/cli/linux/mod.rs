//! `vmm linux`: NMIs into a real Linux kernel.

mod args;
mod boundaries;
mod cache;
mod campaign;
mod explore;
mod kernel;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::{Out, say};
use crate::kernels::{CaseRow, Document, Row};
use crate::report::{Kind, LinuxCase};
pub use args::{Command, HELP, Linux, What};
pub use boundaries::boundaries;
pub use kernel::{KernelArgs, Plan};
use sweep::{How, Said, ending, header, hold_to};

/// Carries out the command.
pub fn run(args: &Linux, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    match &args.command {
        Some(Command::Cache { what }) => return cache::run(*what, out),
        Some(Command::Explore(args)) => return explore::run(args, opened, out),
        None => {}
    }
    match &args.what {
        What { campaign: Some(file), .. } => campaign::campaign(args, file, opened, out),
        What { schedule: Some(schedule), .. } => one(args, schedule, opened, out),
        _ => sweeps(args, opened, out),
    }
}

fn sweeps(args: &Linux, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let mut said = Said::new(args.output.outputs(Kind::JUDGES)?);
    let baseline = args.baseline()?;
    let sites = if args.site.is_empty() { vec![String::new()] } else { args.site.clone() };
    let stop: Arc<AtomicBool> = on_interrupt();
    let plan = Plan {
        sites: sites.clone(),
        mutations: vec![args.kernel.mutate.clone()],
        schedule: None,
        faults: args.fault_in_handler.iter().cloned().collect(),
    };
    let mut booted = args.kernel.boot(&plan, opened, &stop)?;
    booted.lab.set_limit(args.case_limit());
    let mut document = Document::new(booted.info, &booted.lab);
    said.line(&format!("{}\n", header(&document)), out)?;
    let how =
        How { kernel: &args.kernel, fault: args.fault_in_handler.as_deref(), case_limit: args.case_limit, stop: &stop };
    for site in &sites {
        // What went wrong at a site is in the document.
        let _ = how.site(&mut booted.lab, (&args.kernel.mutate, site), &args.part, &mut document, &mut said, out)?;
    }
    hold_to(baseline.as_ref(), &mut document, &mut said, out)?;
    said.write(&document, out)?;
    let ending = ending(&document);
    if ending == Ending::Interrupted {
        say("interrupted; these are the results so far");
    }
    Ok(ending)
}

fn one(args: &Linux, text: &str, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let plan = Plan { mutations: vec![args.kernel.mutate.clone()], schedule: Some(text.to_owned()), ..Plan::default() };
    let mut booted = args.kernel.boot(&plan, opened, &AtomicBool::new(false))?;
    let lab = &mut booted.lab;
    lab.set_limit(args.case_limit());
    let schedule = lab.schedule(text)?;
    let row = Row::of(lab, &schedule.0, args.gear)?;
    let document = Document::new(booted.info, lab);
    let replay = |s: &str| args.kernel.replay(&args.kernel.mutate, args.gear, args.case_limit, s);
    let case = LinuxCase {
        host: &document.host,
        kernel: &document.kernel,
        assists: document.assists,
        gear: args.gear.name(),
        case: CaseRow::of(&row, lab, replay),
        verdict: row.outcome.verdict.to_string(),
        expected: row.expected.to_string(),
        header: header(&document),
    };
    outputs.write(&case, out)?;
    Ok(if row.is_defect() || row.is_silent() { Ending::Unexpected } else { Ending::Expected })
}
