//! The searches: of the path as it is, and with each change.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::{Asked, Error, Finding, Header, Necessity, Need, Options, Subject};
use crate::explore::{self, Bound, Config, Report, explore};
use crate::folder::{self, Ended, Filled, Queue, Step, Watcher};
use crate::image::changes::{Change, changes};
use crate::image::declare::Scenario;
use crate::image::{Guest, Names};
use crate::inject::RunError;
use crate::machine;
use crate::oracle::Verdict;

/// States of a first look at each scenario. What a change breaks shows early, where it shows: the
/// scenarios before it in the list need not be searched to their end.
const GLANCE: usize = 4000;

/// What one search says.
enum Answer {
    /// Pass, closed, after so many states.
    Proved(u64),
    /// It breaks.
    Broken(Need),
    /// Neither is shown, and why.
    Unknown(String),
    /// It was stopped.
    Stopped,
}

/// Asks, for each change of the path, on all threads; the answer does not depend on which takes
/// which. `on_scenario` is called before the path as it is is searched in one. Returns whether
/// everything asked for was done, too.
pub fn necessity(
    subject: Subject,
    options: &Options,
    folder: &folder::Options,
    on_scenario: &mut dyn FnMut(&str),
    watcher: &mut dyn Watcher,
) -> Result<(Necessity, bool), Error> {
    let asked = as_it_is(&subject, options, (folder.jobs, folder.stop), on_scenario)?;
    let searched: Vec<&Scenario> = asked
        .iter()
        .filter(|a| a.left_out.is_none())
        .filter_map(|a| subject.scenarios.iter().find(|s| s.name == a.scenario))
        .collect();
    let mut list = changes(&subject.guest.image, subject.scheme);
    list.retain(|change| options.alterations.contains(&change.what));
    let names = list.iter().map(Change::to_string).collect();
    let header = Header::new(&subject, options, asked, names, folder.shard);
    let work = |queue: &Queue<Finding, Error>| {
        while let Some(unit) = queue.take() {
            let (start, Some(change)) = (Instant::now(), list.get(unit as usize)) else { return Ok(()) };
            let Some(result) = one(&subject, options, &searched, change, queue.stop())? else { return Ok(()) };
            queue.ended(Ended { unit, result, took: start.elapsed(), whole: true });
        }
        Ok(())
    };
    let mut on_unit = |step: &Step<Finding>, watcher: &mut dyn Watcher| {
        watcher.unit(&subject.scheme.name, &step.result.place, 1);
        Ok(())
    };
    let Filled { units, finished, .. } = folder::fill(&header, folder, watcher, &work, &mut on_unit)?;
    Ok((header.answer(units.into_values().collect()), finished))
}

/// Searches the path as it is. Only what it is proved in can show that a change breaks something.
fn as_it_is(
    subject: &Subject,
    options: &Options,
    (jobs, stop): (usize, &AtomicBool),
    on_scenario: &mut dyn FnMut(&str),
) -> Result<Vec<Asked>, Error> {
    let mut asked = Vec::new();
    for scenario in subject.scenarios {
        on_scenario(&scenario.name);
        let answer = search(subject, (options.max_states, jobs), subject.guest, (scenario, None), stop)?;
        let (states, left_out) = match answer {
            Answer::Proved(states) => (states, None),
            Answer::Broken(need) => (0, Some(format!("it breaks as it is: {}", need.detail))),
            Answer::Unknown(why) => (0, Some(why)),
            Answer::Stopped => return Err(Error::Interrupted),
        };
        asked.push(Asked { scenario: scenario.name.clone(), states, left_out });
    }
    asked.sort_by_key(|a| (a.left_out.is_some(), a.states));
    if asked.iter().all(|a| a.left_out.is_some()) {
        let why = asked.iter().filter_map(|a| Some(format!("{}: {}", a.scenario, a.left_out.as_ref()?)));
        return Err(Error::Nothing { scheme: subject.scheme.name.clone(), why: why.collect::<Vec<_>>().join("; ") });
    }
    Ok(asked)
}

/// One change in every scenario; `None` where it was stopped.
fn one(
    subject: &Subject,
    options: &Options,
    scenarios: &[&Scenario],
    change: &Change,
    stop: &AtomicBool,
) -> Result<Option<Finding>, Error> {
    let names = Names::new(subject.guest, &subject.scheme.prefix);
    let decoded = subject.guest.code.at(change.at);
    let mut finding = Finding {
        address: change.at,
        place: names.show(change.at),
        instruction: decoded.map_or_else(|| change.insn.to_string(), |d| d.text()),
        source: subject.guest.source(change.at),
        change: change.what.to_string(),
        needs: Vec::new(),
        unknown: Vec::new(),
    };
    let guest = match change.of(&subject.guest.image) {
        Ok(image) => Guest::new(image),
        Err(e) => {
            finding.unknown.push(("every".to_owned(), format!("the changed image is refused: {e}")));
            return Ok(Some(finding));
        }
    };
    let mut open: Vec<&Scenario> = scenarios.to_vec();
    for states in [GLANCE.min(options.max_states), options.max_states] {
        let mut still = Vec::new();
        for scenario in open {
            match search(subject, (states, 1), &guest, (scenario, Some(change)), stop)? {
                Answer::Proved(_) => {}
                Answer::Broken(need) => {
                    finding.needs.push(need);
                    if !options.every_scenario {
                        return Ok(Some(finding));
                    }
                }
                Answer::Unknown(_) if states < options.max_states => still.push(scenario),
                Answer::Unknown(why) => finding.unknown.push((scenario.name.clone(), why)),
                Answer::Stopped => return Ok(None),
            }
        }
        open = still;
    }
    finding.needs.sort_by_key(|need| scenarios.iter().position(|s| s.name == need.scenario));
    Ok(Some(finding))
}

fn search(
    subject: &Subject,
    (max_states, jobs): (usize, usize),
    guest: &std::sync::Arc<Guest>,
    (scenario, change): (&Scenario, Option<&Change>),
    stop: &AtomicBool,
) -> Result<Answer, Error> {
    if stop.load(Relaxed) {
        return Ok(Answer::Stopped);
    }
    let config = Config { max_states, jobs, cross_check: 2, ..Config::default() };
    let target = (subject.scheme, scenario);
    let report = match explore(subject.host, guest, target, subject.knobs, config, stop, &mut |_| {}) {
        Ok(report) => report,
        Err(e) => return refused(subject, scenario, change, e),
    };
    Ok(judged(subject, guest, scenario, change, &report))
}

/// What a search that ended says.
fn judged(subject: &Subject, guest: &Guest, scenario: &Scenario, change: Option<&Change>, report: &Report) -> Answer {
    if report.bound == Some(Bound::Interrupted) {
        return Answer::Stopped;
    }
    let broken = report.violations.iter().find(|found| found.verdict.is_failure());
    match (broken, report.is_closed()) {
        (Some(found), _) => {
            let schedule = found.schedule.show(Names::new(guest, &subject.scheme.prefix));
            Answer::Broken(Need {
                scenario: scenario.name.clone(),
                rule: Some(rule(&found.verdict)),
                detail: found.verdict.to_string(),
                command: command(subject, scenario, change, &schedule),
                schedule,
            })
        }
        (None, true) => Answer::Proved(report.states),
        (None, false) => Answer::Unknown(match (report.bound, report.contradiction(), report.violations.first()) {
            (_, _, Some(found)) => format!("not closed: {}", found.verdict),
            (Some(bound), ..) => format!("not closed: a limit ({bound:?}) at {} states", report.states),
            (None, Some(why), _) => format!("not closed: {why:?}"),
            (None, None, None) => "not closed".to_owned(),
        }),
    }
}

/// The rule that a verdict names, as `I5`, or else its word.
pub fn rule(verdict: &Verdict) -> String {
    verdict.invariant().map_or_else(|| verdict.word().to_owned(), |i| i.to_string())
}

/// A guest that cannot be searched. Where that is since it does not run without an NMI, the change
/// breaks it; anything else is this host's.
fn refused(
    subject: &Subject,
    scenario: &Scenario,
    change: Option<&Change>,
    e: explore::Error,
) -> Result<Answer, Error> {
    let why = match &e {
        explore::Error::Machine(why) | explore::Error::Path(RunError::Machine(why)) => why,
        explore::Error::Path(_) => return Err(e.into()),
    };
    Ok(match why {
        machine::Error::Interrupted => Answer::Stopped,
        machine::Error::Limit(why) => Answer::Unknown(format!("host-limit: {why}")),
        machine::Error::Boot(_)
        | machine::Error::NotReady(_)
        | machine::Error::Contract(_)
        | machine::Error::Golden(_)
            if change.is_some() =>
        {
            Answer::Broken(Need {
                scenario: scenario.name.clone(),
                rule: None,
                detail: why.to_string(),
                schedule: String::new(),
                command: command(subject, scenario, change, ""),
            })
        }
        _ => return Err(e.into()),
    })
}

/// The command that shows it again.
fn command(subject: &Subject, scenario: &Scenario, change: Option<&Change>, schedule: &str) -> String {
    let scheme = &subject.scheme.name;
    let change = change.map_or(String::new(), |c| format!(" --change {c}"));
    match schedule {
        "" => format!("vmm explore --scheme {scheme} --scenario {}{change}", scenario.name),
        _ => format!("vmm run --scheme {scheme} --scenario {}{change} --schedule '{schedule}'", scenario.name),
    }
}
