//! `vmm agree`: whether several hosts came to the same verdicts.

use std::path::PathBuf;

use super::failure::{Ending, Failure};
use super::out::Out;
use crate::report::{Results, agree as compare};

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
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries out the command.
pub fn agree(args: &Args, out: &mut Out) -> Result<Ending, Failure> {
    let failed = |name: String| move |why: String| Failure::Input { name, why };
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| failed(name.clone())(e.to_string()))?;
        let results = serde_json::from_str::<Results>(&text);
        results.map_err(|e| failed(name)(format!("no results that --json printed: {e}")))
    };
    let all = args.files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let found = compare(&all).map_err(failed("cannot compare".into()))?;
    if args.json {
        let hosts: Vec<_> = all.iter().map(|r| &r.host).collect();
        out.json(&serde_json::json!({
            "hosts": hosts, "rows": found.rows, "cases": found.cases,
            "disagreements": found.disagreements, "host_limits": found.limits,
        }))?;
    } else {
        for (results, path) in all.iter().zip(&args.files) {
            out.line(&format!("{}: host {}", path.display(), results.host))?;
        }
        for limit in &found.limits {
            out.line(&format!("host-limit  {limit}"))?;
        }
        for disagreement in &found.disagreements {
            out.line(&format!("DISAGREE    {disagreement}"))?;
        }
        let (d, l) = (found.disagreements.len(), found.limits.len());
        out.line(&format!("{} rows, {} cases: {d} disagreements, {l} host-limits", found.rows, found.cases))?;
    }
    Ok(if found.disagreements.is_empty() { Ending::Expected } else { Ending::Unexpected })
}
