//! `vmm run` and `vmm replay`: one schedule, judged.

use std::sync::Arc;

use super::args::{self, GearArg, How};
use super::failure::{Ending, Failure};
use super::out::Out;
use super::trace::Tracer;
use crate::image::Guest;
use crate::image::Names;
use crate::image::target::Target;
use crate::inject::{Gear, Replay, Schedule, Session, run as carry_out};
use crate::machine::Knobs;
use crate::oracle::Verdict;
use crate::report::{Disagreement, Document, Row, Step, Summary, trace_header};

/// Carries out `vmm run`.
pub fn run(args: &args::Run, guest: &Arc<Guest>, out: &mut Out) -> Result<Ending, Failure> {
    let t = &args.target;
    let target = Target::find(&guest.image.declared, &t.scheme, &t.scenario, t.mode)?;
    judge(&target, t.knobs(), &args.schedule, &args.how, guest, out)
}

/// Carries out `vmm replay`.
pub fn replay(args: &args::Replay, guest: &Arc<Guest>, out: &mut Out) -> Result<Ending, Failure> {
    let line = Replay::parse(bare(&args.line.join(" ")))?;
    line.check_image(guest)?;
    let target = Target::find(&guest.image.declared, &line.scheme, &line.scenario, Some(line.mode))
        .map_err(Failure::ReplayTarget)?;
    judge(&target, line.knobs, &line.schedule, &args.how, guest, out)
}

/// A line that was copied with the command before it, or with its quotes.
fn bare(line: &str) -> &str {
    let line = line.trim();
    line.strip_prefix("vmm replay").unwrap_or(line).trim().trim_matches(['\'', '"'])
}

fn judge(
    target: &Target,
    knobs: Knobs,
    schedule: &str,
    how: &How,
    guest: &Arc<Guest>,
    out: &mut Out,
) -> Result<Ending, Failure> {
    let gears = gears(how)?;
    let schedule = Schedule::parse(schedule, Names::new(guest, &target.scheme.prefix))?;
    let host = super::host::open()?;
    let mut session = Session::new(&host, guest, &target.scheme, &target.scenario, knobs)?;
    let line = Replay {
        scheme: target.scheme.name.clone(),
        scenario: target.scenario.name.clone(),
        mode: target.scheme.mode,
        image: guest.image.hash.clone(),
        knobs,
        schedule: schedule.show(session.rules().names()),
    };
    let mut steps = Vec::new();
    let mut verdicts = Vec::new();
    for gear in &gears {
        let verdict = match how.trace {
            true => traced(&mut session, &schedule, *gear, how.json.then_some(&mut steps), out)?,
            false => carry_out(&mut session, &schedule, *gear, &mut ())?,
        };
        verdicts.push((*gear, verdict));
    }
    let verdict = verdicts[0].1.clone();
    let disagreement = verdicts.iter().any(|(_, v)| *v != verdict).then(|| Disagreement {
        schedule: line.schedule.clone(),
        verdicts: verdicts.iter().map(|(g, v)| (g.to_string(), v.to_string())).collect(),
    });
    let ending = match (&disagreement, verdict.is_pass()) {
        (Some(_), _) => Ending::Defect,
        (None, true) => Ending::Expected,
        (None, false) => Ending::Unexpected,
    };
    let rows = vec![Row::of_run(&line, &verdict, gears.len(), disagreement.into_iter().collect())];
    if how.json {
        let document = Document {
            host: host.id().clone(),
            image: guest.image.hash.clone(),
            campaign: None,
            complete: true,
            summary: Summary::of(&rows),
            rows,
            timings: None,
            trace: how.trace.then_some(steps),
        };
        out.json(&document)?;
    } else {
        out.text(&shown(&line, &verdict, &rows[0]))?;
    }
    Ok(ending)
}

fn gears(how: &How) -> Result<Vec<Gear>, Failure> {
    match how.gear {
        Some(GearArg::One(Gear::Step)) => Ok(vec![Gear::Step]),
        Some(other) if how.trace => Err(Failure::Usage(format!(
            "--trace shows every instruction, so it needs the step gear; leave --gear {other} out"
        ))),
        Some(gear) => Ok(gear.gears()),
        None if how.trace => Ok(vec![Gear::Step]),
        None => Ok(vec![Gear::Arm]),
    }
}

/// Runs and tells each instruction: to `steps`, or at once to `out`.
fn traced(
    session: &mut Session,
    schedule: &Schedule,
    gear: Gear,
    steps: Option<&mut Vec<Step>>,
    out: &mut Out,
) -> Result<Verdict, Failure> {
    if let Some(steps) = steps {
        let mut sink = |step| steps.push(step);
        let mut tracer = Tracer::new(&mut sink);
        let verdict = carry_out(session, schedule, gear, &mut tracer)?;
        tracer.finish(session);
        return Ok(verdict);
    }
    out.line(&trace_header(session.machine().guest().has_source()))?;
    let mut failed = None;
    let mut sink = |step: Step| {
        if failed.is_none() {
            failed = out.line(&step.to_string()).err();
        }
    };
    let mut tracer = Tracer::new(&mut sink);
    let verdict = carry_out(session, schedule, gear, &mut tracer)?;
    tracer.finish(session);
    if let Some(failure) = failed {
        return Err(failure);
    }
    out.line("")?;
    Ok(verdict)
}

/// The result in words.
fn shown(line: &Replay, verdict: &Verdict, row: &Row) -> String {
    let schedule = if line.schedule.is_empty() { "(none: the golden run)" } else { &line.schedule };
    let mut text = format!("{} / {} / {}\n", line.scheme, line.scenario, line.mode);
    text.push_str(&format!("schedule  {schedule}\nverdict   {verdict}\n"));
    if !verdict.is_pass() {
        text.push_str(&format!("replay    vmm replay '{line}'\n"));
    }
    for d in &row.disagreements {
        text.push_str("the gears disagree, which is a defect of vmm:\n");
        for (gear, verdict) in &d.verdicts {
            text.push_str(&format!("  {gear:5} {verdict}\n"));
        }
    }
    text
}
