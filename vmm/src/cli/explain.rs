//! `vmm explain`: the story of a run, in about ten lines.

use std::sync::Arc;

use clap::Args;

use super::args::GuestArgs;
use super::boot::Booted;
use super::case::{KernelCase, ready};
use super::failure::{Ending, Failure};
use super::opened::Opened;
use super::out::Out;
use super::output::OutputArgs;
use super::run::{bare, story_of};
use crate::debug::KernelRun;
use crate::image::target::Target;
use crate::image::{Guest, Names};
use crate::inject::{Replay, Schedule, Session};
use crate::machine::Knobs;
use crate::report::{Explained, Kind, of_kernel};

/// `vmm explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The line, as it was printed
    #[arg(value_name = "LINE", required = true)]
    pub line: Vec<String>,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Carries out the command.
pub fn explain(args: &Explain, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let line = Replay::parse(bare(&args.line.join(" ")))?;
    line.check_image(guest)?;
    let target = Target::find(&guest.image.declared, &line.scheme, &line.scenario, Some(line.mode))
        .map_err(Failure::ReplayTarget)?;
    let schedule = Schedule::parse(&line.schedule, Names::new(guest, &target.scheme.prefix))?;
    let knobs = Knobs { transport: args.guest.transport, ..line.knobs };
    let host = opened.host()?;
    let mut session = Session::new(&host, guest, &target.scheme, &target.scenario, knobs)?;
    let story = story_of(&mut session, &schedule, &line)?;
    let passes = story.verdict == "pass";
    outputs.write(&Explained { host: host.id().clone(), image: line.image, story }, out)?;
    Ok(if passes { Ending::Expected } else { Ending::Unexpected })
}

/// Carries out the command for a case on a real kernel.
pub fn kernel(args: &Explain, case: &dyn KernelCase, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let outputs = args.output.outputs(Kind::JUDGES)?;
    let (Booted { mut lab, info, host }, schedule) = ready(case, opened)?;
    let events = lab.schedule(schedule)?.0;
    let schedule = lab.show_schedule(&events);
    let mut run = KernelRun::new(&mut lab, events, |text| case.line(text))?;
    let story = of_kernel(&mut run, &info, schedule)?;
    let passes = story.verdict == "pass";
    outputs.write(&Explained { host: host.id().clone(), image: info.image, story }, out)?;
    Ok(if passes { Ending::Expected } else { Ending::Unexpected })
}
