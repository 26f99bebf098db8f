//! `vmm explain`: the story of a run, in about ten lines.

use std::sync::Arc;

use clap::Args;

use super::args::GuestArgs;
use super::failure::{Ending, Failure};
use super::opened::Opened;
use super::out::Out;
use super::run::{bare, story_of};
use crate::image::target::Target;
use crate::image::{Guest, Names};
use crate::inject::{Replay, Schedule, Session};
use crate::machine::Knobs;

/// `vmm explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The line, as it was printed
    #[arg(value_name = "LINE", required = true)]
    pub line: Vec<String>,
    /// The guest.
    #[command(flatten)]
    pub guest: GuestArgs,
}

/// Carries out the command.
pub fn explain(args: &Explain, guest: &Arc<Guest>, opened: Opened, out: &mut Out) -> Result<Ending, Failure> {
    let line = Replay::parse(bare(&args.line.join(" ")))?;
    line.check_image(guest)?;
    let target = Target::find(&guest.image.declared, &line.scheme, &line.scenario, Some(line.mode))
        .map_err(Failure::ReplayTarget)?;
    let schedule = Schedule::parse(&line.schedule, Names::new(guest, &target.scheme.prefix))?;
    let knobs = Knobs { transport: args.guest.transport, ..line.knobs };
    let host = opened.host()?;
    let mut session = Session::new(&host, guest, &target.scheme, &target.scenario, knobs)?;
    let story = story_of(&mut session, &schedule, &line)?;
    out.text(&story.text())?;
    Ok(if story.verdict == "pass" { Ending::Expected } else { Ending::Unexpected })
}
