//! The whole search: by episodes where that is a proof, and otherwise in rounds, until no more of
//! the stacks is found to be live.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::config::{Bound, Config, Error, Report};
use super::episodes::Seen;
use super::progress::Progress;
use super::search::{Broken, LEARN_FROM, Search};
use super::threads::in_order;
use super::worker::{Worker, more_is_live};
use crate::image::Guest;
use crate::image::declare::{Scenario, Scheme};
use crate::inject::Session;
use crate::kvm::Host;
use crate::machine::Knobs;
use crate::machine::hv_bug::HvBug;

/// Searches every pattern of arrivals for one scheme and scenario.
pub fn explore(
    host: &Host,
    guest: &Arc<Guest>,
    (scheme, scenario): (&Scheme, &Scenario),
    knobs: Knobs,
    config: Config,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    let mut config = config;
    if knobs.hv_bug == Some(HvBug::NmiWindowSetsTf) {
        // An arrival executes an instruction of what it interrupts, which must be as it is.
        (config.reductions.merge_dead, config.reductions.merge_episodes) = (false, false);
    }
    let workers = || {
        let worker = |_: &mut (), _| Ok(Worker::new(Session::new(host, guest, scheme, scenario, knobs)?, &config));
        let jobs = config.jobs.max(1);
        in_order(&mut vec![(); jobs], jobs, worker, |_| false)
    };
    let mut before = Seen::default();
    if config.by_episodes() {
        match super::episodes::explore(workers()?, config, stop, on_progress)? {
            Ok(report) => return Ok(report),
            Err(seen) => before = seen,
        }
    }
    let mut workers = workers()?;
    // What is live in a handler hardly depends on what it interrupted: it is learned
    // from few interrupted contexts first, then the whole search is made.
    let mut sample = if config.reductions.merge_dead { LEARN_FROM } else { 1 };
    let mut seen = Vec::new();
    // Once all contexts were looked at, the words that are held for dead hold poison.
    let mut poison = false;
    for round in 1.. {
        let mut poisoned = 0;
        for worker in &mut workers {
            (worker.sample, poisoned) = (sample, worker.poison(poison));
        }
        let mut search = Search::begin(&mut workers[0], config);
        search.run(&mut workers, stop, on_progress)?;
        let stopped = !matches!(search.report.bound, None | Some(Bound::Violation));
        let more = more_is_live(&mut workers);
        log::info!(
            "round {round}: arrivals in 1 of {sample} contexts, {} states; poison in {poisoned} words; more words are live: {more}",
            search.states.len()
        );
        search.report.poisoned = poisoned as u64;
        if poison && more && !stopped {
            // Some of it was read: what was found by that is not true.
            poison = false;
            continue;
        }
        // What a round has found was found by running it: it stands, whatever else is live.
        let broken = !search.found.is_empty() && !config.keep_going;
        if broken && sample > 1 && !stopped {
            // A shorter one may arrive in a context that was left out.
            seen.append(&mut search.found);
            sample = 1;
            continue;
        }
        // What only an earlier round has found is found.
        seen.retain(|f: &Broken| search.found.iter().all(|g| g.verdict.kind() != f.verdict.kind()));
        if config.keep_going || search.found.is_empty() {
            search.found.append(&mut seen);
        }
        let broken = !search.found.is_empty() && !config.keep_going;
        let settled = !more && sample == 1 && (poison || workers[0].look.live.is_none());
        if stopped || broken || settled {
            search.report.rounds = round;
            let mut report = search.finish(&mut workers, settled)?;
            report.deviations.extend(before.deviations);
            report.seen = before.verdict.filter(|_| report.violations.is_empty());
            return Ok(report);
        }
        seen.append(&mut search.found);
        poison = sample == 1;
        if !more {
            sample = 1;
        }
    }
    unreachable!("the loop ends when no more is live, and there are finitely many words")
}
