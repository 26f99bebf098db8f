//! What is done with a kernel that has come up, whichever it is: one schedule, sweeps, a search.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::args::UnitArgs;
use super::boot::{Booted, Plan};
use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::linux::explore::search;
use super::linux::sweep::{Said, Sweeps, ending};
use super::one::{NOT_FOR_ONE, One};
use super::out::{Out, say};
use super::output::OutputArgs;
use super::values;
use crate::inject::Gear;
use crate::kernels::explore::Config;
use crate::kernels::{CampaignRun, FaultBy, Part, Start, costs, replay};
use crate::report::Kind;

/// What to do.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["schedule", "sweep", "search"])]
pub struct Inject {
    /// Run one schedule and judge it
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// A further NMI at every boundary of an NMI's path, NMIs blocked and unblocked
    #[arg(long)]
    pub sweep: bool,
    /// explore: search every number, timing and nesting of NMIs from the site, until nothing new
    /// appears; costs: count the instructions of one NMI's path
    #[arg(value_name = "explore|costs", value_parser = ["explore", "costs"], hide_possible_values = true)]
    pub search: Option<String>,
    /// Which NMI of a sweep goes from boundary to boundary
    #[arg(long, value_name = "PART", value_delimiter = ',', default_value = "second", value_parser = values::part())]
    pub part: Vec<Part>,
    /// A search: something else (an SMI, a machine check) may unblock NMIs
    #[arg(long, requires = "search")]
    pub unmask: bool,
    /// A search: give up beyond so many states
    #[arg(long, value_name = "N", default_value = "2000000")]
    pub max_states: usize,
    /// How a schedule is carried out
    #[arg(long, value_name = "GEAR", default_value = "arm", value_parser = values::one_gear())]
    pub gear: Gear,
    /// Run the schedule so many times, and compare what came of it, with all of RAM and every register
    #[arg(long, value_name = "N", requires = "schedule", value_parser = clap::value_parser!(u32).range(2..))]
    pub repeat: Option<u32>,
    /// CPU time that one case may take before it is a livelock
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..))]
    pub case_limit: u64,
    /// Change the kernel's code after it has come up, as in 'nmi+0x1b=90'
    #[arg(long, value_name = "PLACE=BYTES")]
    pub mutate: Vec<String>,
    /// How the units of sweeps are run.
    #[command(flatten)]
    pub units: UnitArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Inject {
    /// Does it, from each of `sites`, with the kernel that `boot` has come up; `command` runs the same
    /// kernel again.
    pub fn run(
        &self,
        sites: &[String],
        command: String,
        boot: impl FnOnce(&Plan, &AtomicBool) -> Result<Booted, Failure>,
        out: &mut Out,
    ) -> Result<Ending, Failure> {
        let outputs = self.output.outputs(Kind::JUDGES)?;
        if !self.sweep
            && let Some(option) = self.units.given()
        {
            return Err(Failure::Usage(NOT_FOR_ONE.replace("{}", option)));
        }
        if let (Some(what), [_, _, ..]) = (&self.search, sites) {
            return Err(Failure::Usage(format!("{what} takes one --site, and not {}", sites.len())));
        }
        let stop: Arc<AtomicBool> = on_interrupt();
        let sites = if sites.is_empty() { vec![String::new()] } else { sites.to_vec() };
        let mutations = vec![self.mutate.clone()];
        let plan = match &self.schedule {
            Some(text) => Plan { schedule: Some(text.clone()), mutations, ..Plan::default() },
            None => Plan { sites: sites.clone(), mutations, ..Plan::default() },
        };
        let mut booted = boot(&plan, &stop)?;
        let again = |gear: Gear, schedule: &str| {
            replay(&command, &self.mutate, FaultBy::default(), gear.name(), self.case_limit, schedule)
        };
        if let Some(text) = &self.schedule {
            let replay = |schedule: &str| again(self.gear, schedule);
            let (gear, case_limit, repeat) = (self.gear, self.case_limit, self.repeat);
            return One { text, gear, case_limit, repeat, replay: &replay }.run(booted, &outputs, out);
        }
        if let Some(what) = self.search.as_deref() {
            booted.lab.set_limit(Duration::from_millis(self.case_limit));
            booted.lab.go(&self.mutate, Start::Site(&sites[0]))?;
            if what == "costs" {
                outputs.write(&costs(&mut booted.lab, booted.info)?, out)?;
                return Ok(Ending::Expected);
            }
            let config =
                Config { unmask: self.unmask, max_states: self.max_states, cross_check: 20, ..Config::default() };
            return search(booted, &config, &|schedule| again(Gear::Jump, schedule), &outputs, &stop, out);
        }
        let mut said = Said::new(outputs);
        let run =
            CampaignRun { sites, parts: self.part.clone(), mutate: self.mutate.clone(), ..CampaignRun::default() };
        let (units, case_limit) = (&self.units, self.case_limit);
        let sweeps = Sweeps { units, case_limit, command, name: None, runs: &[run], stop: &stop };
        let (document, finished) = sweeps.make(booted, &mut said, out)?;
        said.write(&document, out)?;
        if !finished && document.errors.is_empty() {
            say(self.units.interrupted());
        }
        Ok(ending(&document, self.units.shard.is_some() && finished))
    }

    /// The files that it writes.
    pub fn files(&self) -> Vec<PathBuf> {
        self.output.files()
    }
}
