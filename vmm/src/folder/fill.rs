//! Runs the units that a folder lacks, and keeps what came of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::disk::Disk;
use super::error::Error;
use super::pool::{self, Ended, Work};
use super::shard::Shard;
use super::store::{Opened, Store};
use super::{Record, Subject};

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
    /// A unit ended, of a cell with these two names.
    fn unit(&mut self, first: &str, second: &str, cases: u64);
    /// Something in the result folder is damaged, and is run again.
    fn damaged(&mut self, what: &str);
    /// It is over.
    fn end(&mut self);
}

/// A unit that has just ended.
pub struct Step<'a, U> {
    /// Its number.
    pub unit: u64,
    /// What came of it.
    pub result: &'a U,
    /// How long it took.
    pub took: Duration,
    /// All units that were run to their end, this one among them if it was.
    pub units: &'a BTreeMap<u64, U>,
}

/// What there is after a run.
pub struct Filled<U> {
    /// Units that were run to their end, now or before.
    pub units: BTreeMap<u64, U>,
    /// Units that were stopped before their end; what they found counts, but they are
    /// run again.
    pub partial: BTreeMap<u64, U>,
    /// Whether all units asked for were run.
    pub finished: bool,
}

/// Called with each unit that ends.
pub type OnUnit<'o, U, E> = dyn FnMut(&Step<'_, U>, &mut dyn Watcher) -> Result<(), E> + 'o;

/// Runs the units of `header` that are not kept yet, by `work` on each thread.
pub fn fill<H: Subject, U: Record + Send, E: From<Error> + Send>(
    header: &H,
    options: &Options,
    watcher: &mut dyn Watcher,
    work: &Work<'_, U, E>,
    on_unit: &mut OnUnit<'_, U, E>,
) -> Result<Filled<U>, E> {
    let (mut store, mut units) = match options.out {
        Some(dir) => {
            let Opened { store, units, damaged } = Store::open(dir, header, options.fresh, options.disk)?;
            damaged.iter().for_each(|what| watcher.damaged(what));
            (Some(store), units)
        }
        None => (None, BTreeMap::new()),
    };
    let mut partial = BTreeMap::new();
    let all = (0..header.units()).filter(|u| options.shard.has(*u));
    let pending: Vec<u64> = all.filter(|u| !units.contains_key(u)).collect();
    watcher.begin((pending.len() + units.len()) as u64, units.len() as u64);
    let mut keep = |ended: Ended<U>| {
        let Ended { unit, result, took, whole } = ended;
        if let Some(store) = store.as_mut().filter(|_| whole) {
            store.add(unit, &result)?;
        }
        let to = if whole { &mut units } else { &mut partial };
        to.insert(unit, result);
        let result = if whole { units.get(&unit) } else { partial.get(&unit) };
        match result {
            Some(result) => on_unit(&Step { unit, result, took, units: &units }, watcher),
            None => Ok(()),
        }
    };
    let ended = pool::run(&pending, options.jobs, options.stop, work, &mut keep);
    watcher.end();
    ended?;
    let finished = pending.iter().all(|u| units.contains_key(u));
    if let Some(store) = store.filter(|_| finished) {
        store.finish(&units)?;
    }
    Ok(Filled { units, partial, finished })
}
