//! `vmm compare`: schemes side by side.

use std::sync::Arc;

use clap::Args;

use super::args::GuestArgs;
use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::{Out, say};
use super::output::OutputArgs;
use super::progress::{UNKNOWN, bar};
use crate::compare::{self, Options, compare};
use crate::image::Guest;
use crate::image::declare::Declarations;
use crate::image::target::{Target, fit};
use crate::machine::Knobs;
use crate::report::Kind;

/// Scenarios that are compared in unless told, as far as the image has them.
const USUAL: [&str; 2] = ["quiet", "vmalloc-fault"];

/// What `vmm compare --help` says below the options.
pub const HELP: &str = "\
Costs are counted, one instruction at a time, and are the same on every host; the verdicts
stand beside them. Times are this host's and stand apart: the costs' JSON has the same bytes
in every run with --rounds 0.

Examples:
  vmm compare
  vmm compare --schemes naive,mainline,xen-flag,fred --scenario vmalloc-fault
  vmm compare --max-states 0 --rounds 0 --json          costs only, in seconds

Exits 0 whatever the verdicts are: they are what is asked for. In --format junit and ktap, what is
no pass has failed.";

/// `vmm compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// Schemes, in the order to show them [default: all that are not broken on purpose and can do
    /// what the scenario does]
    #[arg(long, value_name = "S,…", value_delimiter = ',')]
    pub schemes: Vec<String>,
    /// Scenarios [default: quiet, vmalloc-fault]
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Search every pattern of NMIs up to so many states for each; 0: do not search
    #[arg(long, value_name = "N", default_value = "20000")]
    pub max_states: usize,
    /// NMIs to time for each; 0: none
    #[arg(long, value_name = "N", default_value = "1000")]
    pub rounds: usize,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Carries out `vmm compare`.
pub fn run(args: &Compare, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let targets = targets(args, &guest.image.declared)?;
    let knobs = Knobs { transport: args.guest.transport, ..Knobs::default() };
    let options = Options { max_states: args.max_states, rounds: args.rounds, knobs };
    let host = opened.host()?;
    let stop = on_interrupt();
    let bar = bar(UNKNOWN);
    let result = compare(&host, guest, &targets, &options, &stop, &mut |what| bar.set_message(what.to_owned()));
    bar.finish_and_clear();
    let result = result?;
    outputs.write(&result, out)?;
    if !result.complete {
        say(format_args!("interrupted; {} of {} rows are there", result.rows.len(), targets.len()));
        return Ok(Ending::Interrupted);
    }
    Ok(Ending::Expected)
}

/// Every scheme in every scenario, by scenario.
fn targets(args: &Compare, declared: &Declarations) -> Result<Vec<Target>, Failure> {
    let schemes = match args.schemes.is_empty() {
        true => declared.schemes.iter().filter(|s| !s.exhibit()).map(|s| s.name.clone()).collect(),
        false => args.schemes.clone(),
    };
    let known = |name: &&str| declared.scenarios.iter().any(|s| s.name == **name);
    let mut scenarios = args.scenario.clone();
    if scenarios.is_empty() {
        scenarios.extend(USUAL.iter().filter(|n| known(n)).map(|n| (*n).to_owned()));
    }
    if scenarios.is_empty() {
        scenarios.extend(declared.scenarios.iter().map(|s| s.name.clone()));
    }
    let mut targets = Vec::new();
    for scenario in &scenarios {
        for scheme in &schemes {
            if args.schemes.is_empty() && !fits(declared, scheme, scenario) {
                continue; // nobody named it
            }
            targets.push(Target::find(declared, scheme, scenario, None)?);
        }
    }
    Ok(targets)
}

/// Whether the scheme's kernel can do what the scenario does. What there is not fits: the
/// error comes where it is looked up.
fn fits(declared: &Declarations, scheme: &str, scenario: &str) -> bool {
    let scheme = declared.schemes.iter().find(|s| s.name == scheme);
    let scenario = declared.scenarios.iter().find(|s| s.name == scenario);
    scheme.zip(scenario).is_none_or(|(scheme, scenario)| fit(scheme, scenario))
}

impl From<compare::Error> for Failure {
    fn from(e: compare::Error) -> Self {
        match e {
            compare::Error::Run(e) => e.into(),
            compare::Error::Explore(e) => e.into(),
        }
    }
}
