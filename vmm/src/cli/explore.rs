//! `vmm explore`: every pattern of NMIs, to closure.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::args::{GuestArgs, TargetArgs};
use super::failure::{Ending, Failure};
use super::host::cpus;
use super::interrupt::on_interrupt;
use super::opened::Opened;
use super::out::Out;
use super::output::OutputArgs;
use super::progress::{UNKNOWN, bar};
use super::run::story_of;
use super::values;
use crate::explore::{Bound, Config, Reductions, Report, explore};
use crate::image::Guest;
use crate::image::Names;
use crate::image::target::Target;
use crate::inject::{Kind, Replay, Schedule, Session};
use crate::report::{Cases, Exploration, Failing, Heat, Kind as Reports};

/// `vmm explore`.
#[derive(Debug, Args)]
pub struct Explore {
    /// What to explore.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// What may arrive, at any boundary and any number of times
    #[arg(long, value_name = "EVENTS", value_delimiter = ',', default_value = "nmi", value_parser = values::event())]
    pub events: Vec<Kind>,
    /// Go on after the first violation, to find every kind
    #[arg(long)]
    pub keep_going: bool,
    /// Give up beyond so many states
    #[arg(long, value_name = "N", default_value = "20000000")]
    pub max_states: usize,
    /// Give up beyond so many bytes of memory (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", default_value = "4G", value_parser = bytes)]
    pub max_memory: usize,
    /// Threads, each with a VM of its own [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = values::jobs())]
    pub jobs: Option<u16>,
    /// Explored paths to run again in every gear, as a check
    #[arg(long, value_name = "N", default_value = "20")]
    pub cross_check: usize,
    /// Draw the state graph, merged by label, as Graphviz DOT
    #[arg(long, value_name = "FILE")]
    pub graph: Option<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Check: arrivals at boundaries where NMIs are blocked, too
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub all_arrivals: bool,
    /// Check: step through blocked chains instead of running them
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub stepped: bool,
    /// Check: tell states apart by dead stack words, too
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub dead_words: bool,
    /// Check: search what NMIs do to every interrupted context, not once for all that are alike
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub every_episode: bool,
    /// Check: search on KVM alone, without the model of the CPU
    #[arg(long, help_heading = "Reductions off, to check them")]
    pub no_model: bool,
    /// Check: keep every state whole, and count different states with equal hashes
    /// (needs --dead-words)
    #[arg(long, help_heading = "Reductions off, to check them", requires = "dead_words")]
    pub check_hashes: bool,
}

/// `4G`, `512M`, `1000`.
fn bytes(text: &str) -> Result<usize, String> {
    let (number, shift) = match text.trim_end_matches(['K', 'M', 'G']) {
        n if n.len() == text.len() => (n, 0),
        n if text.ends_with('K') => (n, 10),
        n if text.ends_with('M') => (n, 20),
        n => (n, 30),
    };
    let number: usize = number.parse().map_err(|_| "not a number of bytes, such as 4G or 512M".to_owned())?;
    number.checked_shl(shift).filter(|b| b >> shift == number).ok_or_else(|| "too many bytes".to_owned())
}

/// Most violations that a page tells step by step.
const MOST_STORIES: usize = 6;

/// Carries out `vmm explore`.
pub fn run(args: &Explore, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Reports::JUDGES)?;
    let t = &args.target;
    let target = Target::find(&guest.image.declared, &t.scheme, &t.scenario, t.mode)?;
    if !args.events.contains(&Kind::Nmi) {
        return Err(Failure::Usage("--events must have nmi: without NMIs there is nothing to explore".into()));
    }
    let config = Config {
        max_states: args.max_states,
        max_memory: args.max_memory,
        alone: true,
        jobs: args.jobs.map_or_else(cpus, usize::from),
        reductions: Reductions {
            collapse: !args.stepped,
            reduce: !args.all_arrivals,
            events: args.events.iter().copied().collect(),
            merge_dead: !args.dead_words,
            model: !args.no_model,
            merge_episodes: !args.every_episode,
        },
        keep_going: args.keep_going,
        check_hashes: args.check_hashes,
        cross_check: args.cross_check,
        graph: args.graph.is_some(),
        blind: false,
    };
    let host = opened.host()?;
    let stop = on_interrupt();
    let bar = bar(UNKNOWN);
    let began = Instant::now();
    let report =
        explore(&host, guest, (&target.scheme, &target.scenario), t.knobs(&args.guest), config, &stop, &mut |p| {
            let rate = p.states as f64 / began.elapsed().as_secs_f64().max(0.001);
            bar.set_message(format!(
                "{} states, {rate:.0}/s · {} not expanded · {} NMIs in a path",
                p.states, p.frontier, p.arrivals
            ));
        });
    bar.finish_and_clear();
    let report = report?;
    let seconds = began.elapsed().as_secs_f64();
    if let (Some(path), Some(dot)) = (&args.graph, &report.dot) {
        std::fs::write(path, dot).map_err(Failure::writing(path))?;
    }
    let replay = |schedule: String| Replay {
        scheme: target.scheme.name.clone(),
        scenario: target.scenario.name.clone(),
        mode: target.scheme.mode,
        image: guest.image.hash.clone(),
        knobs: t.knobs(&args.guest),
        schedule,
    };
    let names = Names::new(guest, &target.scheme.prefix);
    let words = |schedule: &Schedule| {
        let text = schedule.show(names);
        (text.clone(), replay(text).to_string())
    };
    let place = |addr| names.show(addr);
    let mut document = Exploration::new(host.id().clone(), &replay(String::new()), &report, seconds, &words, &place);
    if outputs.wants("html") {
        let failing = document.violations.iter().map(|v| Failing {
            verdict: v.invariant.as_ref().map_or(v.verdict.clone(), |rule| format!("{}({rule})", v.verdict)),
            scenario: target.scenario.name.clone(),
            schedule: v.schedule.clone(),
        });
        let failing: Vec<_> = failing.collect();
        let proved = report.is_closed() && failing.is_empty();
        let cases = Cases {
            coverage: report.coverage.clone(),
            failing,
            proved: proved.then(|| target.scenario.name.clone()).into_iter().collect(),
            ..Cases::default()
        };
        document.heat = Heat::new(guest, &target.scheme, &cases);
    }
    if outputs.wants("html") && !report.violations.is_empty() {
        let mut session = Session::new(&host, guest, &target.scheme, &target.scenario, t.knobs(&args.guest))?;
        for found in report.violations.iter().take(MOST_STORIES) {
            let line = replay(found.schedule.show(names));
            document.stories.push(story_of(&mut session, &found.schedule, &line)?);
        }
    }
    outputs.write(&document, out)?;
    Ok(ending(&report))
}

fn ending(report: &Report) -> Ending {
    match report.bound {
        Some(Bound::Interrupted) => Ending::Interrupted,
        _ if report.is_closed() && report.violations.is_empty() => Ending::Expected,
        _ => Ending::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_suffixes_and_do_not_overflow() {
        assert_eq!(bytes("4G"), Ok(4 << 30));
        assert_eq!(bytes("512"), Ok(512));
        assert!(bytes("G").is_err());
        assert!(bytes("99999999999999999999").is_err());
        assert!(bytes("17179869184G").is_err());
    }
}
