//! `vmm compare`: schemes side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::args::GuestArgs;
use super::boot::{Plan, look_in};
use super::failure::{Ending, Failure};
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::{Out, say};
use super::output::OutputArgs;
use super::progress::{UNKNOWN, bar};
use super::xen::Machine;
use crate::compare::{self, Options, compare};
use crate::image::Guest;
use crate::image::declare::Declarations;
use crate::image::target::{Target, fit};
use crate::kernels::xen::Body;
use crate::kernels::{Costs, Start, costs};
use crate::kvm::Host;
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
  vmm compare --schemes xen-always,xen-flag --xen xen.gz --xen-symbols xen-syms

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
    /// A hypervisor, whose costs are put beside: the real Xen, with the lab's guest on it
    #[arg(long, value_name = "XEN", requires = "xen_symbols")]
    pub xen: Option<PathBuf>,
    /// Its symbols, of the same build
    #[arg(long, value_name = "XEN-SYMS", requires = "xen")]
    pub xen_symbols: Option<PathBuf>,
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
    let mut result = result?;
    if let (Some(xen), Some(symbols), true) = (&args.xen, &args.xen_symbols, result.complete) {
        result.real = real(xen, symbols, &host, &stop)?;
    }
    outputs.write(&result, out)?;
    if !result.complete {
        say(format_args!("interrupted; {} of {} rows are there", result.rows.len(), targets.len()));
        return Ok(Ending::Interrupted);
    }
    Ok(Ending::Expected)
}

/// Where the real Xen takes NMIs: in a hypercall, and in its guest; and what the guest's callback does
/// there.
const REAL: [(&str, Body); 4] = [
    ("do_xen_version", Body::Nothing),
    ("pv_work", Body::Nothing),
    ("pv_work", Body::Ud),
    ("pv_work", Body::PageFault),
];

/// What one NMI costs the real Xen.
fn real(xen: &Path, symbols: &Path, host: &Host, stop: &AtomicBool) -> Result<Vec<Costs>, Failure> {
    look_in();
    let one = |(site, body): (&str, Body)| {
        let plan = Plan { sites: vec![site.to_owned()], mutations: vec![Vec::new()], ..Plan::default() };
        let (mut lab, info) = Machine::of(xen.to_owned(), symbols.to_owned(), body).up(&plan, host, stop)?;
        lab.go(&[], Start::Site(site))?;
        Ok(costs(&mut lab, info)?)
    };
    REAL.into_iter().map(one).collect()
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
