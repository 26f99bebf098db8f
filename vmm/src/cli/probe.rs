//! `vmm probe`: what this host's KVM does with NMIs.

use std::path::PathBuf;

use super::failure::{Ending, Failure};
use super::host;
use super::opened::Opened;
use super::out::Out;
use super::output::OutputArgs;
use crate::cpu::conform::forms;
use crate::kvm::Host;
use crate::probe::{Probe, Report, kept, measure, probes, risky_probes};
use crate::report::{Kind, ModelReport, ProbeComparison, ProbeReport};

/// What `vmm probe --help` ends with.
pub const HELP: &str = "\
Each row is one property that a verdict or a recipe relies on: the architecture's answer with
its source, this host's, and what the lab does about it. The fingerprint covers kernel, KVM
module, CPU and all answers. docs/guide/json.md describes the JSON, and compares some hosts.

Examples:
  vmm probe
  vmm probe --json > here.json
  vmm probe --only nmi-after-iretq --only unmask-iretq
  vmm probe --compare here.json there.json
  vmm probe --model                     is each instruction executed as the SDM says?
  vmm probe --model --only iretq --cases 1000

Exits 0 whatever the host answers.";

/// `vmm probe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Make only this probe; may be repeated. The fingerprint then covers no other. With --model:
    /// only forms whose names begin so
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Also make the probes that may hang a process in the kernel for good (vmcall)
    #[arg(long)]
    risky: bool,
    /// Run every form of instruction that the model of the CPU knows, in random machines, by the
    /// model and on this KVM, and list where they differ
    #[arg(long, conflicts_with_all = ["risky", "compare", "rows"])]
    pub model: bool,
    /// With --model: machines for each form, at each CPL
    #[arg(long, value_name = "N", default_value = "40", requires = "model")]
    cases: u32,
    /// Compare reports (of --json) side by side instead; nothing is measured
    #[arg(long, value_name = "FILE", num_args = 2.., conflicts_with_all = ["only", "risky", "rows"])]
    pub compare: Vec<PathBuf>,
    /// With --compare: print Markdown
    #[arg(long, requires = "compare")]
    markdown: bool,
    /// Make these probes in this process, one row of JSON a line: what the program calls
    /// itself with, so that a probe that hangs costs its own row only
    #[arg(long, value_name = "ID", num_args = 1.., hide = true)]
    pub rows: Vec<String>,
}

/// Carries out the command.
pub fn probe(args: &Args, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    if args.model {
        model(args, &opened.host()?, out)?;
    } else if !args.compare.is_empty() {
        compare(args, out)?;
    } else if args.rows.is_empty() {
        report(args, opened.bare, out)?;
    } else {
        rows(&args.rows, &opened.host()?, out)?;
    }
    Ok(Ending::Expected)
}

fn find(id: &str) -> Result<&'static Probe, Failure> {
    let known = || probes().chain(risky_probes()).map(|p| p.id).collect::<Vec<_>>().join(" ");
    crate::probe::probe(id).ok_or_else(|| Failure::Usage(format!("no probe is called {id}; there are: {}", known())))
}

fn report(args: &Args, bare: bool, out: &mut Out) -> Result<(), Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let mut chosen: Vec<&Probe> = match args.only.is_empty() {
        true => probes().collect(),
        false => args.only.iter().map(|id| find(id)).collect::<Result<_, _>>()?,
    };
    if args.risky {
        chosen.extend(risky_probes());
    }
    chosen.dedup_by_key(|p| p.id);
    let host = Host::open()?; // the reason and the cure, where there is no KVM
    let report = host::measure(&chosen, bare)?;
    if let (true, false, Some(place)) = (args.only.is_empty(), args.risky, kept::place(host.id())) {
        host::keep(&place, &report); // the other commands go by the newest
    }
    outputs.write(&ProbeReport(report), out)
}

fn model(args: &Args, host: &Host, out: &mut Out) -> Result<(), Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let names: Vec<&str> = forms().map(|form| form.name).collect();
    if let Some(only) = args.only.iter().find(|only| !names.iter().any(|name| name.starts_with(only.as_str()))) {
        let mut known = names;
        known.dedup();
        return Err(Failure::Usage(format!("no form's name begins with {only}; there are: {}", known.join(", "))));
    }
    let chosen = |name: &str| args.only.is_empty() || args.only.iter().any(|only| name.starts_with(only.as_str()));
    let report = crate::probe::model::measure(host, args.cases.into(), chosen)?;
    outputs.write(&ModelReport(report), out)
}

fn rows(ids: &[String], host: &Host, out: &mut Out) -> Result<(), Failure> {
    for id in ids {
        let row = measure(host, find(id)?);
        let line = serde_json::to_string(&row).map_err(|e| Failure::Input { name: id.clone(), why: e.to_string() })?;
        out.line(&line)?;
        out.flush()?;
    }
    Ok(())
}

fn compare(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let read = |path: &PathBuf| {
        let failed = |why: String| Failure::Input { name: path.display().to_string(), why };
        let text = super::input::text(path)?;
        let report = serde_json::from_str::<Report>(&text);
        report.map_err(|e| failed(format!("is no report of `vmm probe --json`: {e}")))
    };
    let reports = args.compare.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    outputs.write(&ProbeComparison { reports, markdown: args.markdown }, out)
}
