//! `vmm linux`: NMIs into a real Linux kernel.

mod args;
mod boundaries;
mod cache;
pub mod campaign;
pub mod explore;
mod kernel;
pub mod necessity;
pub mod sweep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::boot::{Booted, Plan};
use super::case::{KernelCase, never, ready};
use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::one::{NOT_FOR_ONE, One};
use super::opened::Opened;
use super::out::{Out, say};
use super::output::Outputs;
use crate::folder::{self, Subject};
use crate::inject::Gear;
use crate::kernels::{CampaignRun, Document, Results, Start};
use crate::report::Kind;
pub use args::{Command, HELP, Linux, What};
pub use boundaries::boundaries;
pub use kernel::KernelArgs;
use sweep::{Said, Sweeps, ending, header, hold_to, shown};

/// Carries out the command.
pub fn run(args: &Linux, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    match &args.command {
        Some(Command::Cache { what }) => return cache::run(*what, out),
        Some(Command::Explore(args)) => return explore::run(args, opened, out),
        Some(Command::Necessity(args)) => return necessity::run(args, opened, out),
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
    let run = CampaignRun {
        sites,
        parts: args.part.clone(),
        fault: args.fault_in_handler.clone(),
        fault_by: args.fault_by,
        mutate: args.kernel.mutate.clone(),
        ..CampaignRun::default()
    };
    let plan = Plan {
        sites: run.sites.clone(),
        mutations: vec![run.mutate.clone()],
        schedule: None,
        faults: run.fault.iter().cloned().collect(),
    };
    let booted = args.kernel.boot(&plan, opened, &stop)?;
    let (units, case_limit, command) = (&args.units, args.case_limit, args.kernel.command());
    let sweeps = Sweeps { units, case_limit, command, name: None, runs: &[run], stop: &stop };
    let (mut document, finished) = sweeps.make(booted, &mut said, out)?;
    hold_to(baseline.as_ref(), &mut document, &mut said, out)?;
    said.write(&document, out)?;
    if !finished && document.errors.is_empty() {
        say(args.units.interrupted());
    }
    Ok(ending(&document, args.units.shard.is_some() && finished))
}

/// What `vmm merge` and `vmm report` do with folders of a kernel's results.
pub fn merge(
    dirs: &[PathBuf],
    to: Option<&Path>,
    partial: bool,
    outputs: Outputs,
    out: &mut Out,
) -> Result<Ending, Failure> {
    let (results, damaged) = Results::merge(dirs)?;
    damaged.iter().for_each(say);
    if let Some(dir) = to {
        folder::write(dir, &results.header, &results.units, &folder::Real)?;
    }
    let document = Document::of(&results);
    let mut said = Said::new(outputs);
    said.line(&format!("{}\n", header(&document)), out)?;
    document.sweeps.iter().try_for_each(|info| said.line(&shown(info), out))?;
    said.judgements(&document, out)?;
    said.write(&document, out)?;
    if !document.complete {
        let (run, of) = (results.units.len(), results.header.units());
        let hint = if partial { "" } else { " (--partial takes what is there)" };
        say(format_args!("not complete: {run} of {of} units were run{hint}"));
    }
    Ok(match (ending(&document, partial), document.complete) {
        (Ending::Interrupted, _) => Ending::Unexpected,
        (other, _) => other,
    })
}

impl KernelCase for Linux {
    fn schedule(&self) -> Option<&str> {
        self.what.schedule.as_deref()
    }

    fn mutations(&self) -> &[String] {
        &self.kernel.mutate
    }

    fn case_limit(&self) -> u64 {
        self.case_limit
    }

    fn boot(&self, plan: &Plan, opened: Opened) -> Result<Booted, Failure> {
        let mut booted = self.kernel.boot(plan, opened, &never())?;
        if let Some(text) = plan.schedule.as_ref().filter(|_| !self.fault_by.is_usual()) {
            booted.lab.set_fault_by(self.fault_by);
            booted.lab.go(&self.kernel.mutate, Start::Schedule(text))?;
        }
        Ok(booted)
    }

    fn line(&self, schedule: &str) -> String {
        self.kernel.replay(self.fault_by, Gear::Step, self.case_limit, schedule)
    }
}

fn one(args: &Linux, text: &str, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    if let Some(option) = args.units.given() {
        return Err(Failure::Usage(NOT_FOR_ONE.replace("{}", option)));
    }
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let (booted, _) = ready(args, opened)?;
    let replay = |schedule: &str| args.kernel.replay(args.fault_by, args.gear, args.case_limit, schedule);
    let one = One { text, gear: args.gear, case_limit: args.case_limit, repeat: args.repeat, replay: &replay };
    one.run(booted, &outputs, out)
}
