//! `vmm agree`: whether several hosts came to the same verdicts.

use std::path::PathBuf;

use super::failure::{Ending, Failure};
use super::out::Out;
use super::output::OutputArgs;
use crate::report::{Agreed, Kind, Results, agree as compare};

/// What `vmm agree --help` ends with.
pub const HELP: &str = "\
The files are what --json printed for the same campaign and image on several hosts. Listed
are rows on which the hosts disagree, and those with a host-limit: what that host's KVM
cannot show excuses as many cases of the other verdicts, and no more.

Examples:
  vmm campaign scripts/campaigns/agreement.toml --json > here.json
  scripts/hosts/svm campaign scripts/campaigns/agreement.toml --json > svm.json
  vmm agree here.json svm.json

Exits 0 if no host disagrees, else 1.";

/// `vmm agree`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Results of one host each
    #[arg(value_name = "FILE", num_args = 2.., required = true)]
    pub files: Vec<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Carries out the command.
pub fn agree(args: &Args, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let failed = |name: String| move |why: String| Failure::Input { name, why };
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let text = super::input::text(path)?;
        let results = serde_json::from_str::<Results>(&text);
        results.map_err(|e| failed(name)(format!("no results that --json printed: {e}")))
    };
    let all = args.files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let found = compare(&all).map_err(failed("cannot compare".into()))?;
    let hosts = all.iter().map(|r| r.host.clone()).collect();
    let names = args.files.iter().map(|f| f.display().to_string()).collect();
    let agreed = Agreed { names, hosts, found };
    outputs.write(&agreed, out)?;
    Ok(if agreed.found.disagreements.is_empty() { Ending::Expected } else { Ending::Unexpected })
}
