//! Campaigns: a TOML file becomes runs, runs become results.
//!
//! A campaign is schemes × scenarios; each is divided into units of work, numbered
//! densely and without regard to the machine. Units are shared out to threads, and by
//! `--shard` to machines; their results can be put together in any order ([`crate::folder`]).

mod closure;
mod ended;
mod error;
mod file;
mod generate;
mod plan;
mod results;
mod tally;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use ended::Ended;
pub use error::Error;
pub use file::Campaign;
pub use results::{CellHeader, Header, Results, RowResult};
pub use tally::{Disagreement, Found, Rank, Tally};

use crate::folder::{self, Error as Folder, Filled, Merged, Options, Step, Watcher};
use crate::image::Guest;
use crate::kvm::Host;
use plan::Plan;
use worker::Pool;

/// Results, and how long they took.
pub struct Outcome {
    /// What was there, or was run since.
    pub results: Results,
    /// Whether all units asked for were run.
    pub finished: bool,
    /// By scheme and scenario.
    pub timings: Vec<Timing>,
}

/// How long a scheme and scenario took.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Timing {
    /// The scheme's name.
    pub scheme: String,
    /// The scenario's name.
    pub scenario: String,
    /// Cases run now; those of an earlier, resumed run are not among them.
    pub cases: u64,
    /// Seconds of all threads together.
    pub seconds: f64,
}

/// Most bytes of a campaign file.
const MOST_BYTES: u64 = 16 << 20;

/// Reads a campaign file.
pub fn read(path: &Path) -> Result<Campaign, Error> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(Folder::reading(path))?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MOST_BYTES + 1), &mut text)
        .map_err(Folder::reading(path))?;
    if text.len() as u64 > MOST_BYTES {
        let why = format!("a campaign file has {} MiB at most", MOST_BYTES >> 20);
        return Err(Error::File { path: path.display().to_string(), line: 1, why });
    }
    Campaign::parse(&path.display().to_string(), &text)
}

/// Runs a campaign.
pub fn run(
    campaign: Campaign,
    guest: &Arc<Guest>,
    host: &Host,
    options: &Options,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, Error> {
    let plan = Plan::new(campaign, guest, host)?;
    let header = Header::new(&plan, host, options.shard);
    let mut times = vec![(0u64, 0f64); plan.cells.len()];
    let mut on_unit = |step: &Step<Tally>, watcher: &mut dyn Watcher| {
        let cell = plan.cell_of(step.unit);
        times[cell].0 += step.result.cases;
        times[cell].1 += step.took.as_secs_f64();
        let target = &plan.cells[cell].target;
        watcher.unit(&target.scheme.name, &target.scenario.name, step.result.cases);
        Ok::<(), Error>(())
    };
    let pool = Pool { plan: &plan, host };
    let Filled { units, partial, finished } =
        folder::fill(&header, options, watcher, &|queue| pool.work(queue), &mut on_unit)?;
    let results = Results { header, units, partial };
    let timing = |(cell, (cases, seconds)): (&plan::Cell, (u64, f64))| Timing {
        scheme: cell.target.scheme.name.clone(),
        scenario: cell.target.scenario.name.clone(),
        cases,
        seconds,
    };
    let timings = plan.cells.iter().zip(times).map(timing).collect();
    Ok(Outcome { results, finished, timings })
}

/// Puts result folders together; returns what they hold, and what in them is damaged.
pub fn merge(dirs: &[PathBuf]) -> Result<(Results, Vec<String>), Error> {
    let Merged { header, units, damaged } = folder::merge(dirs)?;
    Ok((Results { header, units, partial: BTreeMap::new() }, damaged))
}

/// The folder's file with the timings, apart from the results since it is never the
/// same twice.
pub fn write_timings(dir: &Path, timings: &[Timing]) -> Result<PathBuf, Error> {
    let path = dir.join("timings.json");
    let text = serde_json::to_string_pretty(timings).map_err(|e| Folder::writing(&path)(e.into()))?;
    std::fs::write(&path, text + "\n").map_err(Folder::writing(&path))?;
    Ok(path)
}
