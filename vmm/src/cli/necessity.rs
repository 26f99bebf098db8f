//! `vmm necessity`: which instruction of an entry path is needed, and for what.

use std::sync::Arc;

use super::args::GuestArgs;
use super::failure::{Ending, Failure};
use super::host::cpus;
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::{Out, say};
use super::output::OutputArgs;
use super::progress::{AMOUNT, bar};
use super::values;
use crate::folder::Shard;
use crate::image::Guest;
use crate::image::changes::Alteration;
use crate::image::declare::Scenario;
use crate::image::target::{find_scenario, find_scheme, fit};
use crate::machine::Knobs;
use crate::necessity::{self, Finding, Options, Subject};
use crate::report::Kind;

/// What `vmm necessity --help` ends with.
pub const HELP: &str = "\
Each instruction of the scheme's code is replaced by NOPs in turn, and every scenario in which the
path as it is is proved is searched again, the quickest first. The answer is a listing in which each
instruction stands with the rule that breaks without it, the scenario, and the shortest schedule. An
instruction without which nothing breaks is superfluous, or the scenarios have a hole there.

Examples:
  vmm necessity --scheme naive --scenario quiet
  vmm necessity --scheme linus-2010-fixed --html necessity.html
  vmm necessity --scheme naive --scenario quiet --what inverted,swapped
  vmm run --scheme naive --scenario quiet --change removed@naive.exit_iret --schedule 'nmi@work.fill'

Exits 0 where every change was searched to its end, whatever was found, and 1 where for some it is
not known whether they are needed.";

/// `vmm necessity`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scheme (see `vmm list schemes`)
    #[arg(long, value_name = "S")]
    pub scheme: String,
    /// Scenarios [default: all that the scheme can run]
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// What is done to each instruction: removed, inverted, swapped, narrowed, displacement+8 and
    /// so on, or all
    #[arg(long, value_name = "WHAT,…", value_delimiter = ',', default_value = "removed")]
    what: Vec<String>,
    /// Go on in the other scenarios where one breaks
    #[arg(long)]
    every_scenario: bool,
    /// Give a search up beyond so many states
    #[arg(long, value_name = "N", default_value = "200000")]
    max_states: usize,
    /// Threads, each with machines of its own [default: one per CPU]
    #[arg(long, short, value_name = "N", value_parser = values::jobs())]
    jobs: Option<u16>,
    /// Try only every N-th change, beginning with number I (from 0)
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Carries out the command.
pub fn run(args: &Args, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let declared = &guest.image.declared;
    let scheme = find_scheme(declared, &args.scheme)?;
    let scenarios: Vec<Scenario> = match args.scenario.is_empty() {
        true => declared.scenarios.iter().filter(|s| fit(scheme, s)).cloned().collect(),
        false => args.scenario.iter().map(|name| find_scenario(declared, name).cloned()).collect::<Result<_, _>>()?,
    };
    if let Some(other) = scenarios.iter().find(|s| !fit(scheme, s)) {
        return Err(Failure::Usage(format!("{} cannot run {}", scheme.name, other.name)));
    }
    let options = Options {
        alterations: alterations(&args.what)?,
        knobs: Knobs { transport: args.guest.transport, ..Knobs::default() },
        max_states: args.max_states,
        jobs: args.jobs.map_or_else(cpus, usize::from),
        every_scenario: args.every_scenario,
        shard: args.shard.map_or((0, 1), |shard| (shard.index(), shard.of())),
    };
    let host = opened.host()?;
    let stop = on_interrupt();
    let bar = bar(AMOUNT);
    let subject = Subject { host: &host, guest, scheme, scenarios: &scenarios, stop: &stop };
    let found = necessity::necessity(subject, &options, &|done, of, what| match of {
        0 => bar.set_message(format!("{what}, as it is")),
        _ => {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_owned());
        }
    });
    bar.finish_and_clear();
    let found = found?;
    outputs.write(&found, out)?;
    if !found.complete {
        say(format_args!("interrupted; {} of {} changes were tried", found.findings.len(), found.of));
        return Ok(Ending::Interrupted);
    }
    let known = |f: &Finding| f.is_needed() || f.is_not_shown();
    Ok(if found.findings.iter().all(known) { Ending::Expected } else { Ending::Unexpected })
}

fn alterations(names: &[String]) -> Result<Vec<Alteration>, Failure> {
    if names.iter().any(|name| name == "all") {
        return Ok(Alteration::ALL.to_vec());
    }
    let words = || Alteration::ALL.map(|a| a.to_string()).join(", ");
    let one = |name: &String| {
        Alteration::of(name)
            .ok_or_else(|| Failure::Usage(format!("there is no change {name:?}; expected all, or some of {}", words())))
    };
    names.iter().map(one).collect()
}

impl From<necessity::Error> for Failure {
    fn from(e: necessity::Error) -> Self {
        match e {
            necessity::Error::Explore(e) => e.into(),
            necessity::Error::Nothing { .. } => Failure::Usage(e.to_string()),
            necessity::Error::Thread { number, jobs, why } => {
                Failure::Scarce { name: format!("thread {number} of {jobs}"), why }
            }
        }
    }
}
