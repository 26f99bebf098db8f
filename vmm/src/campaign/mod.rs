//! Campaigns: a TOML file becomes runs, runs become results.
//!
//! A campaign is schemes × scenarios; each is divided into units of work, numbered
//! densely and without regard to the machine. Units are shared out to threads, and by
//! `--shard` to machines; their results can be put together in any order.

mod closure;
mod disk;
mod ended;
mod error;
mod file;
mod generate;
mod plan;
mod records;
mod results;
mod shard;
mod store;
mod tally;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use disk::{Disk, Output, Real};
pub use ended::Ended;
pub use error::Error;
pub use file::Campaign;
pub use results::{CellHeader, Header, Results, RowResult};
pub use shard::Shard;
pub use store::{Merged, merge, write};
pub use tally::{Disagreement, Found, Rank, Tally};

use crate::image::Guest;
use crate::kvm::Host;
use plan::Plan;
use store::{Opened, Store};
use worker::UnitResult;

/// How a campaign is run.
pub struct Options<'a> {
    /// How many threads run cases.
    pub jobs: usize,
    /// The part of the units that is run.
    pub shard: Shard,
    /// Where results are kept.
    pub out: Option<&'a Path>,
    /// Results of something else in `out` are thrown away.
    pub fresh: bool,
    /// What writes them.
    pub disk: &'a dyn Disk,
    /// Set from outside to stop at the next case.
    pub stop: &'a AtomicBool,
}

/// Is told how a campaign gets on.
pub trait Watcher {
    /// It begins: units to run, of which some were run before.
    fn begin(&mut self, units: u64, done: u64);
    /// A unit ended.
    fn unit(&mut self, scheme: &str, scenario: &str, cases: u64);
    /// Something in the result folder is damaged, and is run again.
    fn damaged(&mut self, what: &str);
    /// It is over.
    fn end(&mut self);
}

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
    let file = std::fs::File::open(path).map_err(Error::reading(path))?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MOST_BYTES + 1), &mut text)
        .map_err(Error::reading(path))?;
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
    let (mut store, units) = match options.out {
        Some(dir) => {
            let Opened { store, units, damaged } = Store::open(dir, &header, options.fresh, options.disk)?;
            damaged.iter().for_each(|what| watcher.damaged(what));
            (Some(store), units)
        }
        None => (None, BTreeMap::new()),
    };
    let all = (0..plan.units()).filter(|u| options.shard.has(*u));
    let pending: Vec<u64> = all.filter(|u| !units.contains_key(u)).collect();
    watcher.begin((pending.len() + units.len()) as u64, units.len() as u64);

    let mut results = Results { header, units, partial: BTreeMap::new() };
    let mut times = vec![(0u64, 0f64); plan.cells.len()];
    let mut on_unit = |ended: UnitResult| {
        let cell = plan.cell_of(ended.unit);
        times[cell].0 += ended.tally.cases;
        times[cell].1 += ended.took.as_secs_f64();
        let target = &plan.cells[cell].target;
        watcher.unit(&target.scheme.name, &target.scenario.name, ended.tally.cases);
        if !ended.whole {
            results.partial.insert(ended.unit, ended.tally);
            return Ok(());
        }
        if let Some(store) = &mut store {
            store.add(ended.unit, &ended.tally)?;
        }
        results.units.insert(ended.unit, ended.tally);
        Ok(())
    };
    let ended = worker::run_units(&plan, host, &pending, options.jobs, options.stop, &mut on_unit);
    watcher.end();
    ended?;

    let finished = pending.iter().all(|u| results.units.contains_key(u));
    if let Some(store) = store.filter(|_| finished) {
        store.finish(&results.units)?;
    }
    let timing = |(cell, (cases, seconds)): (&plan::Cell, (u64, f64))| Timing {
        scheme: cell.target.scheme.name.clone(),
        scenario: cell.target.scenario.name.clone(),
        cases,
        seconds,
    };
    let timings = plan.cells.iter().zip(times).map(timing).collect();
    Ok(Outcome { results, finished, timings })
}

/// The folder's file with the timings, apart from the results since it is never the
/// same twice.
pub fn write_timings(dir: &Path, timings: &[Timing]) -> Result<PathBuf, Error> {
    let path = dir.join("timings.json");
    let text = serde_json::to_string_pretty(timings).map_err(|e| Error::writing(&path)(e.into()))?;
    std::fs::write(&path, text + "\n").map_err(Error::writing(&path))?;
    Ok(path)
}
