//! `vmm run` and `vmm replay`: one schedule, judged.

use std::sync::Arc;

use clap::Args;

use super::args::{GuestArgs, TargetArgs};
use super::failure::{Ending, Failure};
use super::opened::Opened;
use super::out::{Out, say};
use super::output::OutputArgs;
use super::values;
use crate::campaign::Disagreement;
use crate::image::Guest;
use crate::image::Names;
use crate::image::target::Target;
use crate::inject::{
    self, At, Event, Gear, Replay as ReplayLine, RunError, Schedule, Session, Settled, judge as carry_out, settle,
};
use crate::machine::Knobs;
use crate::oracle::Verdict;
use crate::report::{Fold, Kind, Level, Recorder, Run as RunReport, Step, Story, Tracer, judgement, trace_header};

/// `vmm run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What to run.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// What arrives where, as in 'nmi@exit_iret#1 nmi@body+0x4#2' [default: nothing]
    #[arg(long, value_name = "SCHEDULE", default_value = "", hide_default_value = true)]
    pub schedule: String,
    /// How to run and show it.
    #[command(flatten)]
    pub how: How,
}

/// `vmm replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The line, as it was printed
    #[arg(value_name = "LINE", required = true)]
    pub line: Vec<String>,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// How to run and show it.
    #[command(flatten)]
    pub how: How,
}

/// How one schedule is run and shown.
#[derive(Debug, Args)]
pub struct How {
    /// How the schedule is carried out [default: arm, or step with --trace]
    #[arg(long, value_name = "GEAR", value_parser = values::gears())]
    pub gear: Option<&'static [Gear]>,
    /// Show the run step by step: NMIs with their frames, and every instruction with what it
    /// changed, nesting depth, blocked (B) and pending (P) [without a value: all]
    #[arg(long, value_name = "WHAT", value_parser = values::trace())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub trace: Option<Level>,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Carries out `vmm run`.
pub fn run(args: &Run, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let t = &args.target;
    let target = Target::find(&guest.image.declared, &t.scheme, &t.scenario, t.mode)?;
    judge(&target, t.knobs(&args.guest), &args.schedule, &args.how, guest, opened, out)
}

/// Carries out `vmm replay`.
pub fn replay(args: &Replay, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let line = ReplayLine::parse(bare(&args.line.join(" ")))?;
    line.check_image(guest)?;
    let target = Target::find(&guest.image.declared, &line.scheme, &line.scenario, Some(line.mode))
        .map_err(Failure::ReplayTarget)?;
    judge(
        &target,
        Knobs { transport: args.guest.transport, ..line.knobs },
        &line.schedule,
        &args.how,
        guest,
        opened,
        out,
    )
}

/// A line that was copied with the command before it, or with its quotes.
pub fn bare(line: &str) -> &str {
    let line = line.trim();
    line.strip_prefix("vmm replay").unwrap_or(line).trim().trim_matches(['\'', '"'])
}

fn judge(
    target: &Target,
    knobs: Knobs,
    schedule: &str,
    how: &How,
    guest: &Arc<Guest>,
    opened: Opened,
    out: &mut Out,
) -> Result<Ending, Failure> {
    let outputs = how.output.outputs(Kind::JUDGES)?;
    let gears = gears(how)?;
    // A trace is long: it is shown as it is made.
    let live = how.trace.is_some() && outputs.is_text();
    let schedule = Schedule::parse(schedule, Names::new(guest, &target.scheme.prefix))?;
    let host = opened.host()?;
    let mut session = Session::new(&host, guest, &target.scheme, &target.scenario, knobs)?;
    let line = ReplayLine {
        scheme: target.scheme.name.clone(),
        scenario: target.scenario.name.clone(),
        mode: target.scheme.mode,
        image: guest.image.hash.clone(),
        knobs,
        schedule: schedule.show(session.rules().names()),
    };
    let mut steps = Vec::new();
    let mut verdicts = Vec::new();
    for gear in gears {
        let verdict = match how.trace {
            Some(level) => {
                let live = live.then_some(&mut *out).map(|out| (out, Fold::new(level, outputs.screen_look())));
                traced(&mut session, &schedule, *gear, &mut steps, live)
            }
            None => carry_out(&mut session, &schedule, *gear, &mut ()).map_err(Failure::from),
        };
        verdicts.push((*gear, verdict.map_err(|failure| hinted(failure, &mut session, &schedule))?));
    }
    if session.take_smi_played() {
        say(format_args!("SMIs were played by the lab: this host has none that it can raise here (host-limit)"));
    }
    if let Some(at) = session.machine().read_time() {
        let at = session.rules().names().show(at);
        say(format_args!("{at} reads time or randomness: another run may come to another verdict"));
    }
    let Some(Settled { verdict, disagree }) = settle(&verdicts) else {
        return Err(Failure::Usage("no gear was asked for".into()));
    };
    let disagreement = disagree.then(|| Disagreement {
        schedule: line.schedule.clone(),
        verdicts: verdicts.iter().map(|(g, v)| (g.name().to_owned(), v.to_string())).collect(),
    });
    let ending = match (&disagreement, verdict.is_pass()) {
        (Some(_), _) => Ending::Defect,
        (None, true) => Ending::Expected,
        (None, false) => Ending::Unexpected,
    };
    let story = outputs.wants("html").then(|| story_of(&mut session, &schedule, &line)).transpose()?;
    let run = RunReport {
        host: host.id().clone(),
        line,
        verdict,
        gears: gears.len(),
        disagreement,
        trace: how.trace.map(|level| (level, steps)),
        story,
        source: guest.has_source(),
    };
    if live {
        out.text(&judgement(&run, &outputs.screen_look()))?;
        outputs.write_files(&run)?;
    } else {
        outputs.write(&run, out)?;
    }
    Ok(ending)
}

/// Runs a schedule one instruction at a time, and tells what happened.
pub fn story_of(session: &mut Session, schedule: &Schedule, line: &ReplayLine) -> Result<Story, Failure> {
    let mut recorder = Recorder::new();
    let verdict = carry_out(session, schedule, Gear::Step, &mut recorder)?;
    Ok(recorder.finish(session).end(line, &verdict))
}

fn gears(how: &How) -> Result<&'static [Gear], Failure> {
    match how.gear {
        Some([Gear::Step]) => Ok(&[Gear::Step]),
        Some(gears) if how.trace.is_some() => Err(Failure::Usage(format!(
            "--trace shows every instruction, so it needs the step gear; leave --gear {} out",
            if let [gear] = gears { gear.name() } else { "all" }
        ))),
        Some(gears) => Ok(gears),
        None if how.trace.is_some() => Ok(&[Gear::Step]),
        None => Ok(&[Gear::Arm]),
    }
}

/// A place that is never reached may be in code that only an NMI runs: says so, with the line
/// that would work, where there is one.
fn hinted(failure: Failure, session: &mut Session, schedule: &Schedule) -> Failure {
    let Failure::Run(RunError::NeverReached { event, why }) = failure else { return failure };
    let first = session.rules().golden.visits.first().map(|v| At { addr: v.addr, n: v.n });
    let longer = first.map(|at| {
        let nmi = Event { kind: inject::Kind::Nmi, at };
        Schedule(std::iter::once(nmi).chain(schedule.0.iter().copied()).collect())
    });
    let works = longer.filter(|longer| {
        longer.0.first() != schedule.0.first() && carry_out(session, longer, Gear::Step, &mut ()).is_ok()
    });
    let why = match works {
        Some(longer) => {
            let line = longer.show(session.rules().names());
            format!("{why}; it is in code that runs for an NMI only: --schedule '{line}' would reach it")
        }
        None => why,
    };
    Failure::Run(RunError::NeverReached { event, why })
}

/// Runs, and notes each instruction in `steps`; `live` writes it to standard output at once.
fn traced(
    session: &mut Session,
    schedule: &Schedule,
    gear: Gear,
    steps: &mut Vec<Step>,
    mut live: Option<(&mut Out, Fold)>,
) -> Result<Verdict, Failure> {
    let mut failed = None;
    if let Some((out, _)) = &mut live {
        out.line(&trace_header(session.machine().guest().has_source()))?;
    }
    let mut sink = |step: Step| {
        if let Some((out, fold)) = &mut live
            && failed.is_none()
        {
            failed = fold.lines(&step).iter().find_map(|line| out.line(line).err());
        }
        steps.push(step);
    };
    let mut tracer = Tracer::new(&mut sink);
    let verdict = carry_out(session, schedule, gear, &mut tracer)?;
    tracer.finish(session);
    if let Some(failure) = failed {
        return Err(failure);
    }
    if let Some((out, fold)) = &mut live {
        fold.rest().iter().try_for_each(|line| out.line(line))?;
        out.line("")?;
    }
    Ok(verdict)
}
