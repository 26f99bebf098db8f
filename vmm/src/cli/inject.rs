//! What is done with a kernel that has come up, whichever it is: one schedule, sweeps, a search.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::args::UnitArgs;
use super::boot::{Booted, Plan};
use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::linux::campaign::{as_expected, parse};
use super::linux::explore::search;
use super::linux::necessity::ask;
use super::linux::sweep::{Said, Sweeps, ending};
use super::one::{NOT_FOR_ONE, One};
use super::out::{Out, say};
use super::output::{OutputArgs, Outputs};
use super::values;
use crate::inject::Gear;
use crate::kernels::explore::Config;
use crate::kernels::{CampaignRun, FaultBy, Part, Start, costs, replay};
use crate::necessity::kernel::Question;
use crate::report::Kind;

/// States beyond which a search gives up.
const MOST_STATES: usize = 2_000_000;
/// The word that begins a search.
const EXPLORE: &str = "explore";
/// The word that asks what each instruction is needed for.
const NECESSITY: &str = "necessity";

/// What to do.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["schedule", "sweep", "campaign", "search"])]
pub struct Inject {
    /// Run one schedule and judge it
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<String>,
    /// A further NMI at every boundary of an NMI's path, NMIs blocked and unblocked
    #[arg(long)]
    pub sweep: bool,
    /// Run what a campaign file says
    #[arg(long, value_name = "FILE")]
    pub campaign: Option<PathBuf>,
    /// explore: search every number, timing and nesting of NMIs from the site, until nothing new
    /// appears; costs: count the instructions of one NMI's path; necessity: remove each instruction of
    /// the NMI's entry code, and say what breaks without it
    #[arg(value_name = "explore|costs|necessity", value_parser = [EXPLORE, "costs", NECESSITY], hide_possible_values = true)]
    pub search: Option<String>,
    /// Which NMI of a sweep goes from boundary to boundary
    #[arg(long, value_name = "PART", value_delimiter = ',', default_value = "second", value_parser = values::part())]
    pub part: Vec<Part>,
    /// A search: something else (an SMI, a machine check) may unblock NMIs
    #[arg(long, requires = "search")]
    pub unmask: bool,
    /// A search: give up beyond so many states [default: 2000000]
    #[arg(long, value_name = "N", requires = "search")]
    pub max_states: Option<usize>,
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
        let outputs = self.outputs()?;
        let asks = self.search.as_deref() == Some(NECESSITY);
        if !self.sweep
            && self.campaign.is_none()
            && !asks
            && let Some(option) = self.units.given()
        {
            return Err(Failure::Usage(NOT_FOR_ONE.replace("{}", option)));
        }
        if let Some(what) = self.search.as_deref().filter(|what| *what != EXPLORE)
            && let Some(option) = self.of_a_search()
        {
            return Err(Failure::Usage(format!("{option} is for explore, and not for {what}")));
        }
        if let (Some(what), [_, _, ..], false) = (&self.search, sites, asks) {
            return Err(Failure::Usage(format!("{what} takes one --site, and not {}", sites.len())));
        }
        let stop: Arc<AtomicBool> = on_interrupt();
        let (name, runs) = match &self.campaign {
            Some(file) => self.runs_of(file)?,
            None => (None, Vec::new()),
        };
        let sites = if sites.is_empty() { vec![String::new()] } else { sites.to_vec() };
        let mutations = vec![self.mutate.clone()];
        let plan = match &self.schedule {
            Some(text) => Plan { schedule: Some(text.clone()), mutations, ..Plan::default() },
            None if !runs.is_empty() => Plan {
                sites: runs.iter().flat_map(|run| run.sites.clone()).collect(),
                mutations: runs.iter().map(|run| run.mutate.clone()).collect(),
                ..Plan::default()
            },
            None => Plan { sites: sites.clone(), mutations, ..Plan::default() },
        };
        let mut booted = boot(&plan, &stop)?;
        let again = |gear: Gear, schedule: &str| self.line(&command, gear, schedule);
        if let Some(text) = &self.schedule {
            let replay = |schedule: &str| again(self.gear, schedule);
            let (gear, case_limit, repeat) = (self.gear, self.case_limit, self.repeat);
            return One { text, gear, case_limit, repeat, replay: &replay }.run(booted, &outputs, out);
        }
        if asks {
            let (parts, mutate, command) = (&self.part, &self.mutate, &command);
            let every_site = false;
            let question = Question { mutate, sites: &sites, parts, every_site, command, case_limit: self.case_limit };
            return ask(booted, &question, &self.units, &outputs, &stop, out);
        }
        if let Some(what) = self.search.as_deref() {
            booted.lab.set_limit(Duration::from_millis(self.case_limit));
            booted.lab.go(&self.mutate, Start::Site(&sites[0]))?;
            if what == "costs" {
                outputs.write(&costs(&mut booted.lab, booted.info)?, out)?;
                return Ok(Ending::Expected);
            }
            let max_states = self.max_states.unwrap_or(MOST_STATES);
            let config = Config { unmask: self.unmask, max_states, cross_check: 20, ..Config::default() };
            return search(booted, &config, &|schedule| again(Gear::Jump, schedule), &outputs, &stop, out);
        }
        let mut said = Said::new(outputs);
        let (parts, mutate) = (self.part.clone(), self.mutate.clone());
        let one = [CampaignRun { sites, parts, mutate, ..CampaignRun::default() }];
        let (units, case_limit) = (&self.units, self.case_limit);
        let is_campaign = !runs.is_empty();
        let runs = if is_campaign { &runs[..] } else { &one };
        let sweeps = Sweeps { units, case_limit, command, name, runs, stop: &stop };
        let (document, finished) = sweeps.make(booted, &mut said, out)?;
        said.write(&document, out)?;
        if !finished && document.errors.is_empty() {
            say(self.units.interrupted());
        }
        let ending = ending(&document, self.units.shard.is_some() && finished);
        Ok(if is_campaign { as_expected(&document, ending) } else { ending })
    }

    /// An option that only a search has, if one is given.
    fn of_a_search(&self) -> Option<&'static str> {
        match (self.unmask, self.max_states) {
            (true, _) => Some("--unmask"),
            (false, Some(_)) => Some("--max-states"),
            (false, None) => None,
        }
    }

    /// What a campaign file says is to be run, and its name.
    fn runs_of(&self, file: &Path) -> Result<(Option<String>, Vec<CampaignRun>), Failure> {
        let campaign = parse(file)?;
        let bad = |why: &str| Failure::Input { name: file.display().to_string(), why: why.to_owned() };
        match campaign.runs.iter().find(|run| run.fault.is_some()) {
            _ if campaign.kernel().is_some() => Err(bad("it names a kernel, which the command line does here")),
            _ if campaign.runs.is_empty() => Err(bad("it has no run")),
            Some(run) => Err(bad(&format!("the run {:?} has a fault in the handler, for Linux only", run.about))),
            None => {
                let changed =
                    |run: CampaignRun| CampaignRun { mutate: [&self.mutate[..], &run.mutate[..]].concat(), ..run };
                Ok((Some(campaign.name), campaign.runs.into_iter().map(changed).collect()))
            }
        }
    }

    /// Where what is judged goes.
    pub fn outputs(&self) -> Result<Outputs, Failure> {
        self.output.outputs(Kind::JUDGES)
    }

    /// The command line that carries out a schedule on the kernel that `command` runs.
    pub fn line(&self, command: &str, gear: Gear, schedule: &str) -> String {
        replay(command, &self.mutate, FaultBy::default(), gear.name(), self.case_limit, schedule)
    }

    /// The files that it writes.
    pub fn files(&self) -> Vec<PathBuf> {
        self.output.files()
    }
}
