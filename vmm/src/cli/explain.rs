//! `vmm explain`: the story of a run, in about ten lines.

use std::sync::Arc;

use clap::Args;

use super::args::GuestArgs;
use super::failure::{Ending, Failure};
use super::opened::Opened;
use super::out::Out;
use super::output::OutputArgs;
use super::run::{bare, story_of};
use crate::image::target::Target;
use crate::image::{Guest, Names};
use crate::inject::{Replay, Schedule, Session};
use crate::machine::Knobs;
use crate::report::{Explained, Kind};

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
