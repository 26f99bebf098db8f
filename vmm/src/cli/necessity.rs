//! `vmm necessity`: which instruction of an entry path is needed, and for what.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;

use super::args::{GuestArgs, UnitArgs};
use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::{Out, say};
use super::output::{OutputArgs, Outputs};
use super::progress::{Bar, UNKNOWN, bar};
use crate::folder::{self, Watcher};
use crate::image::Guest;
use crate::image::changes::Alteration;
use crate::image::declare::Scenario;
use crate::image::target::{find_scenario, find_scheme, fit};
use crate::machine::Knobs;
use crate::necessity::{self, Finding, Header, Necessity, Options, Subject};
use crate::report::Kind;

/// What `vmm necessity --help` ends with.
pub const HELP: &str = "\
Each instruction of the scheme's code is replaced by NOPs in turn, and every scenario in which the
path as it is is proved is searched again, the quickest first: all of them for a few thousand
states, and then to their end where nothing broke. The answer is a listing in which each
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
    /// How its units are run: each change is one.
    #[command(flatten)]
    pub units: UnitArgs,
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
        max_states: args.max_states,
        every_scenario: args.every_scenario,
    };
    let host = opened.host()?;
    let stop = on_interrupt();
    let bar = bar(UNKNOWN);
    let knobs = Knobs { transport: args.guest.transport, ..Knobs::default() };
    let subject = Subject { host: &host, guest, scheme, scenarios: &scenarios, knobs };
    let mut on_scenario = |name: &str| bar.set_message(format!("{name}, as it is"));
    let mut watcher = Begun { searching: &bar, then: Bar::new() };
    let found = necessity::necessity(subject, &options, &args.units.options(&stop), &mut on_scenario, &mut watcher);
    bar.finish_and_clear();
    let (found, finished) = found?;
    outputs.write(&found, out)?;
    if !finished {
        say(args.units.interrupted());
        return Ok(Ending::Interrupted);
    }
    Ok(ending(&found))
}

/// A change's bar takes the place of that for the path as it is.
pub struct Begun<'a> {
    /// The bar for the path as it is.
    pub searching: &'a ProgressBar,
    /// That of the changes.
    pub then: Bar,
}

impl Watcher for Begun<'_> {
    fn begin(&mut self, units: u64, done: u64) {
        self.searching.finish_and_clear();
        self.then.begin(units, done);
    }

    fn unit(&mut self, first: &str, second: &str, cases: u64) {
        self.then.unit(first, second, cases);
    }

    fn damaged(&mut self, what: &str) {
        self.then.damaged(what);
    }

    fn end(&mut self) {
        self.then.end();
    }
}

/// How a command ends that has this to report, and all that it was asked for.
pub fn ending(found: &Necessity) -> Ending {
    let known = |f: &Finding| f.is_needed() || f.is_not_shown();
    if found.findings.iter().all(known) { Ending::Expected } else { Ending::Unexpected }
}

/// Puts result folders together, for `vmm merge` and `vmm report`.
pub fn merge(
    dirs: &[PathBuf],
    to: Option<&Path>,
    partial: bool,
    outputs: &Outputs,
    out: &mut Out,
) -> Result<Ending, Failure> {
    let merged = folder::merge::<Header, Finding>(dirs)?;
    merged.damaged.iter().for_each(say);
    if let Some(dir) = to {
        folder::write(dir, &merged.header, &merged.units, &folder::Real)?;
    }
    let found = necessity::answer(&merged);
    outputs.write(&found, out)?;
    let missing = found.of - found.findings.len();
    if missing > 0 {
        let hint = if partial { "" } else { " (--partial takes what is there)" };
        say(format_args!("{missing} of {} changes are missing{hint}", found.of));
    }
    Ok(if found.complete || partial { ending(&found) } else { Ending::Unexpected })
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
            necessity::Error::Folder(e) => e.into(),
            necessity::Error::Interrupted => crate::machine::Error::Interrupted.into(),
        }
    }
}
